//! Small histories of a ring, in every interleaving.

use std::rc::Rc;

use super::*;
use crate::shm::model::{self, Model, be, explore, explore_deaths, mortal};

type Shared = Rc<(Ring<Model>, Shelf)>;

fn shared(most_items: u64) -> Shared {
    let ring = Ring::new(model::Word32::default, model::Word64::default);
    ring.init(most_items, 0);
    Rc::new((ring, Shelf::new()))
}

fn put(shared: &Shared, name: u64) -> Result<u64, RingError> {
    shared.0.put(&shared.1, &message(name, 8), None, Deadline::NEVER)
}

fn get(shared: &Shared) -> Result<u64, RingError> {
    let mut bytes = Vec::new();
    shared.0.get(&shared.1, &mut bytes, Deadline::NEVER).map(|_| name(&bytes))
}

#[test]
fn a_message_wakes_a_consumer_and_closing_does() {
    explore(|| {
        let ring = shared(0);
        let consumer = {
            let ring = Rc::clone(&ring);
            model::process(2, move || (get(&ring).ok(), get(&ring).ok()))
        };
        be(1, || {
            put(&ring, 7).unwrap();
            ring.0.close(&ring.1);
        });
        assert_eq!(consumer.join(), Some((Some(7), None)));
    });
}

#[test]
fn room_wakes_a_producer() {
    explore(|| {
        let ring = shared(1);
        let producer = {
            let ring = Rc::clone(&ring);
            model::process(2, move || [put(&ring, 1).is_ok(), put(&ring, 2).is_ok()])
        };
        be(1, || assert_eq!([get(&ring).ok(), get(&ring).ok()], [Some(1), Some(2)]));
        assert_eq!(producer.join(), Some([true; 2]));
    });
}

#[test]
fn a_dead_producer_leaves_a_message_or_none() {
    explore_deaths(|steps| {
        let ring = shared(0);
        let producer = {
            let ring = Rc::clone(&ring);
            mortal(2, steps, move || put(&ring, 1).is_ok())
        };
        let got = be(1, || {
            put(&ring, 2).unwrap();
            [get(&ring).ok(), (ring.0.len() > 0).then(|| get(&ring).unwrap())]
        });
        let lived = producer.join().is_some();
        let left = be(1, || ring.0.len());
        match got {
            [Some(2), None] => assert!(!lived || left == 1),
            [Some(1), Some(2)] | [Some(2), Some(1)] => assert_eq!(left, 0),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_dead_consumer_takes_its_message_or_none() {
    explore_deaths(|steps| {
        let ring = shared(0);
        be(1, || {
            put(&ring, 1).unwrap();
            put(&ring, 2).unwrap();
        });
        let consumer = {
            let ring = Rc::clone(&ring);
            mortal(2, steps, move || get(&ring).ok())
        };
        let mine = be(1, || get(&ring).unwrap());
        let other = consumer.join();
        let left = be(1, || ring.0.len());
        match other {
            Some(other) => assert_eq!((mine + other.unwrap(), left), (3, 0)),
            None => assert!(mine <= 2 && left <= 1 && (mine == 1 || left == 0)),
        }
    });
}
