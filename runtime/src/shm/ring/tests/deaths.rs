//! A process is killed at each of its steps: nothing is lost, nothing comes twice, nobody waits in vain.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::*;
use crate::shm::threads::mortal;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Put(usize),
    PutParcel(usize),
    Get,
    Close,
    Done,
}
use Step::*;

/// What a history has led to. Messages are named in the order in which somebody tried to put them.
#[derive(Default)]
struct Diary {
    names: u64,
    put: Vec<u64>,
    got: Vec<u64>,
    /// What was begun, and has not come to an end.
    open: Option<(Step, u64)>,
}

fn run(ring: &Ring<Threads>, shelf: &Shelf, steps: &[Step], diary: &RefCell<Diary>) {
    for step in steps {
        let name = diary.borrow().names;
        diary.borrow_mut().open = Some((*step, name));
        match *step {
            Put(length) | PutParcel(length) => {
                diary.borrow_mut().names += 1;
                let parcel = matches!(step, PutParcel(_)).then_some(Parcel { id: name, weight: 9 });
                match ring.try_put(shelf, &message(name, length), parcel) {
                    Ok(_) => diary.borrow_mut().put.push(name),
                    Err(RingError::TimedOut | RingError::Closed) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
            Get => match try_get(ring, shelf) {
                Ok(name) => diary.borrow_mut().got.push(name),
                Err(RingError::TimedOut | RingError::Closed) => {}
                Err(error) => panic!("{error:?}"),
            },
            Close => ring.close(shelf),
            Done => drop(ring.task_done()),
        }
        diary.borrow_mut().open = None;
    }
}

/// Somebody runs `before`; somebody else is killed at each step of `steps`; a third one finds everything in
/// order.
fn at_every_step((items, bytes): (u64, u64), before: &[Step], steps: &[Step]) {
    for life in 0.. {
        let (ring, shelf, diary) = (ring(items, bytes), Shelf::new(), RefCell::default());
        process(|| run(&ring, &shelf, before, &diary));
        let lived = mortal(life, || run(&ring, &shelf, steps, &diary)).is_some();
        let open = diary.borrow_mut().open.take();
        process(|| survive(&ring, &shelf, &diary, open));
        if lived {
            return;
        }
    }
}

fn survive(ring: &Ring<Threads>, shelf: &Shelf, diary: &RefCell<Diary>, open: Option<(Step, u64)>) {
    let before = diary.borrow().got.len();
    let in_ring = ring.len() as usize;
    // This put is what finds out about the dead one's parcel.
    let is_open = !ring.is_closed();
    run(ring, shelf, &[Put(40)], diary);
    run(ring, shelf, &vec![Get; in_ring + 2], diary);
    let diary = diary.borrow();

    let mut put = diary.put.clone();
    if let Some((Put(_) | PutParcel(_), name)) = open
        && diary.got.contains(&name)
    {
        let at = put.iter().position(|other| *other > name).unwrap_or(put.len());
        put.insert(at, name);
    }
    let mut got = diary.got.clone();
    let taken =
        (open.is_some_and(|(step, _)| step == Get) && got.len() < put.len()).then(|| put[before]);
    got.splice(before..before, taken);
    assert_eq!(got, put, "the dead one was in {open:?}");
    assert_eq!(ring.len(), 0);
    assert_eq!(ring.puts(), put.len() as u64);

    for (parcel, fate) in &*shelf.parcels.lock().unwrap() {
        let abandoned = if got.contains(parcel) { 0 } else { 1 };
        assert_eq!(fate.abandoned.min(1), if is_open { abandoned } else { 0 }, "{fate:?}");
        assert!(fate.adopted > 0 || abandoned == 1, "{fate:?}");
    }
    assert!(shelf.made().len() <= if open.is_some() { 2 } else { 1 }, "{:?}", shelf.made());
    let more = ring.unfinished();
    assert!((0..more).all(|_| ring.task_done().is_ok()) && ring.task_done().is_err());
}

#[test]
fn in_a_new_ring() {
    at_every_step((0, 0), &[], &[Put(8), Get, Put(9), Put(100), Get, Get, Get]);
}

#[test]
fn with_parcels() {
    at_every_step(
        (0, 0),
        &[],
        &[PutParcel(8), PutParcel(9), Get, Put(100), PutParcel(8), Get, Get],
    );
    at_every_step((0, 0), &[PutParcel(8)], &[Get, PutParcel(3000), PutParcel(3000)]);
}

#[test]
fn where_buffers_grow() {
    let grow = [Put(3000), Put(3000), PutParcel(3000), Put(9000), Put(30000), Get];
    at_every_step((0, 0), &[], &grow);
    at_every_step((0, 0), &grow, &[Get, Get, Put(8), Get, Get, Put(8), Get, Get]);
    at_every_step((0, 0), &grow, &[Get, Put(60000 / 2), Get, Put(60000 / 2), Get, Get]);
}

#[test]
fn where_a_lap_begins() {
    let before = [Put(1200), Put(1200), Get, Put(1200), Get];
    at_every_step((0, 0), &before, &[Put(1200), PutParcel(900), Get, Get, Put(600), Get, Get]);
    // Records that end where the buffer does.
    let before = [Put(1016), Get].repeat(3);
    at_every_step((0, 0), &before, &[Put(1016), Get, Put(1016), Get]);
}

#[test]
fn where_buffers_shrink_and_grow_again() {
    let mut before = [Put(1000); 20].to_vec();
    before.extend([Get; 20]);
    before.extend([Put(1000), Get].repeat(7));
    let mut steps = [Put(1000), Get].repeat(4);
    steps.extend([Put(4000); 8]);
    steps.extend([Get; 10]);
    at_every_step((0, 0), &before, &steps);
    // A hop up while the consumers have not seen the hop down.
    let mut steps = [Put(1000), Get].repeat(3);
    steps.extend([Put(1000), Put(1500), Put(1500), Put(1500), Put(3000), Put(3000), Put(3000)]);
    steps.extend([Get; 8]);
    at_every_step((0, 0), &before, &steps);
}

#[test]
fn with_bounds() {
    let steps = [Put(8), Put(8), PutParcel(8), Get, PutParcel(8), Get, Get];
    at_every_step((2, 0), &[], &steps);
    at_every_step((0, 40), &[], &steps);
}

#[test]
fn while_closing_and_counting() {
    at_every_step((0, 0), &[Put(8)], &[Put(8), Get, Done, Done, Close, Put(8), Get, Get, Done]);
}

/// Whoever sleeps goes on although the one who should have woken him was killed.
#[test]
fn nobody_sleeps_for_ever() {
    for life in 0.. {
        let (ring, shelf) = (ring(1, 0), Shelf::new());
        let lived = thread::scope(|scope| {
            let consumer = scope.spawn(|| {
                process(|| {
                    let mut bytes = Vec::new();
                    ring.get(&shelf, &mut bytes, Deadline::NEVER).unwrap();
                    name(&bytes)
                })
            });
            let lived = mortal(life, || ring.try_put(&shelf, &message(1, 8), None)).is_some();
            let producer = scope.spawn(|| {
                process(|| {
                    ring.put(&shelf, &message(2, 8), None, Deadline::NEVER).unwrap();
                    ring.put(&shelf, &message(3, 8), None, Deadline::NEVER)
                })
            });
            let first = consumer.join().unwrap();
            let committed = lived || first == 1;
            assert_eq!(first, if committed { 1 } else { 2 });
            // Two of the three are left, or one; the consumer is killed, too.
            let mut got = 1;
            mortal(life, || try_get(&ring, &shelf));
            let all = if committed { 3 } else { 2 };
            while ring.gets() < all {
                process(|| {
                    ring.get(&shelf, &mut Vec::new(), Deadline::NEVER).unwrap();
                });
                got += 1;
            }
            assert!(got >= all - 1);
            producer.join().unwrap().unwrap();
            lived
        });
        if lived && life > 100 {
            return;
        }
    }
}

/// Many are killed while many others go on.
#[test]
fn in_a_crowd() {
    const LIVES: u64 = 300;
    for (items, bytes) in [(0, 0), (5, 0), (0, 20_000)] {
        let (ring, shelf) = (ring(items, bytes), Shelf::new());
        let accepted = Mutex::new(BTreeSet::new());
        let got = Mutex::new(Vec::new());
        let deaths = AtomicU64::new(0);
        thread::scope(|scope| {
            let producers = (0..3).map(|producer| {
                let (ring, shelf, accepted) = (&ring, &shelf, &accepted);
                scope.spawn(move || {
                    let mut number = numbers(producer);
                    for life in 0..LIVES {
                        mortal(number() % 1000, || {
                            for i in 0.. {
                                let name = producer << 48 | life << 24 | i;
                                let length = 8 + (number() % 700) as usize;
                                let weight = 0;
                                let parcel = (i % 3 == 0).then_some(Parcel { id: name, weight });
                                match ring.put(shelf, &message(name, length), parcel, soon()) {
                                    Ok(_) => assert!(accepted.lock().unwrap().insert(name)),
                                    Err(RingError::TimedOut) => {}
                                    Err(error) => panic!("{error:?}"),
                                }
                            }
                        });
                    }
                })
            });
            let producers: Vec<_> = producers.collect();
            for consumer in 0..3 {
                let (ring, shelf, got, deaths) = (&ring, &shelf, &got, &deaths);
                scope.spawn(move || {
                    let mut number = numbers(consumer + 100);
                    let life = |steps| {
                        let consume = || loop {
                            let mut bytes = Vec::new();
                            match ring.get(shelf, &mut bytes, Deadline::NEVER) {
                                Ok(mark) => got.lock().unwrap().push((mark.number, name(&bytes))),
                                Err(RingError::Closed) => return,
                                Err(error) => panic!("{error:?}"),
                            }
                        };
                        mortal(steps, consume).is_none()
                    };
                    while life(1 + number() % 2000) {
                        deaths.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            producers.into_iter().for_each(|producer| producer.join().unwrap());
            process(|| ring.close(&shelf));
        });
        let (accepted, got) = (accepted.into_inner().unwrap(), got.into_inner().unwrap());
        let numbers: BTreeSet<u64> = got.iter().map(|(number, _)| *number).collect();
        let names: BTreeSet<u64> = got.iter().map(|(_, name)| *name).collect();
        assert_eq!((numbers.len(), names.len()), (got.len(), got.len()), "nothing comes twice");
        let lost = accepted.difference(&names).count() as u64;
        let taken = ring.gets() - got.len() as u64;
        let deaths = deaths.into_inner();
        assert_eq!(ring.gets(), ring.puts());
        assert!(lost <= taken && taken <= deaths, "{lost} lost, {taken} taken, {deaths} deaths");
        for (name, fate) in &*shelf.parcels.lock().unwrap() {
            assert!(fate.abandoned == 0 || !names.contains(name) && fate.adopted == 0);
            assert!(fate.abandoned > 0 || fate.adopted > 0, "{fate:?}");
        }
    }
}
