//! A stream of bytes from one process to one other, through a ring in memory that both share.
//!
//! Bytes are counted from the stream's beginning. Two counts say which are in the ring, and each has one
//! writer:
//!
//! ```text
//! tail   how many the producer has published
//! head   how many the consumer has taken
//! ```
//!
//! One store of `tail` publishes any number of bytes, one of `head` gives their room back. So whoever dies
//! at whatever instruction, the stream is whole: what isn't published isn't there. What the producer has
//! written behind the tail stays where it is, for whoever wants to look at it after its death.
//!
//! Byte `p` lies at `(p - origin) mod CAPACITY`. When the ring is empty the producer may move the *origin*,
//! so that the next byte lies at the ring's beginning again: a conversation in which each waits for the
//! other's answer then stays within a few pages, which are in both processors' caches. Nobody needs the old
//! origin then; the new one is stored before the tail that publishes the first byte behind it, and the
//! consumer reads it after that tail.
//!
//! Neither side trusts the other: a count that goes backwards, or further than the ring is long, is a
//! [`Breach`]; an origin may be any number. What each side must rely on it keeps in its own memory.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::platform::{Platform, Word};

/// Bytes in a ring, a power of two. Measured: what is longer streams through one of this size at the
/// speed of `memcpy`, copy-in and copy-out overlapped, and it stays in the second-level cache.
pub(crate) const CAPACITY: usize = 1 << 20;

const MASK: u64 = CAPACITY as u64 - 1;

/// So many bytes behind the origin the producer begins to look whether it can be moved. Until then it
/// doesn't ask for the consumer's line of memory, which is a cache miss.
const NEAR: u64 = 16 * 1024;

/// The shared words. All zeros: nothing has been sent. Each writer's words have cache lines of their own,
/// two of them, as processors fetch them in pairs.
#[repr(C, align(128))]
pub(crate) struct Stream<P: Platform> {
    produced: Produced<P>,
    consumed: Consumed<P>,
}

#[repr(C, align(128))]
struct Produced<P: Platform> {
    tail: P::U64,
    origin: P::U64,
}

#[repr(C, align(128))]
struct Consumed<P: Platform> {
    head: P::U64,
}

/// The other side has written what it never writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Breach;

/// Bytes of the ring: the first one's place, and how many there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) offset: usize,
    pub(crate) length: usize,
}

fn offset(position: u64, origin: u64) -> usize {
    (position.wrapping_sub(origin) & MASK) as usize
}

impl<P: Platform> Stream<P> {
    /// For models and tests, which don't have zeroed memory.
    #[cfg(test)]
    pub(crate) fn new(word: impl Fn() -> P::U64) -> Self {
        Self {
            produced: Produced { tail: word(), origin: word() },
            consumed: Consumed { head: word() },
        }
    }

    /// How many bytes were published, as far as the producer is to be believed.
    pub(crate) fn tail(&self) -> u64 {
        self.produced.tail.load(Acquire)
    }

    /// How many bytes were taken, as far as the consumer is to be believed.
    pub(crate) fn head(&self) -> u64 {
        self.consumed.head.load(Acquire)
    }
}

/// What the producer knows for itself.
#[derive(Debug, Default)]
pub(crate) struct Producer {
    tail: u64,
    origin: u64,
    /// What the consumer had taken when the producer last looked.
    head: u64,
    /// The tail from which on it looks whether the origin can be moved.
    look_at: u64,
    /// Whether something may stand behind the tail, so that the origin must stay.
    lent: bool,
}

impl Producer {
    /// The room behind what was published, in one piece: all of it if `least` bytes are wanted at least.
    /// The caller may write there and [`publish`](Self::publish) later.
    ///
    /// # Errors
    /// The consumer has taken what isn't there.
    pub(crate) fn room<P: Platform>(
        &mut self,
        stream: &Stream<P>,
        least: usize,
    ) -> Result<Span, Breach> {
        let near = self.look_at.wrapping_add(NEAR);
        let is_near = near.wrapping_sub(self.tail).cast_signed() > 0;
        if self.used() + least > CAPACITY || !is_near {
            self.look(stream)?;
        }
        if !is_near && !self.lent {
            self.look_at = self.tail;
            if self.used() == 0 {
                self.origin = self.tail;
                // Released by the tail that publishes the first byte behind it.
                stream.produced.origin.store(self.origin, Relaxed);
            }
        }
        self.lent = true;
        Ok(Span { offset: offset(self.tail, self.origin), length: CAPACITY - self.used() })
    }

    /// Nothing was written to the room.
    pub(crate) fn give_back(&mut self) {
        self.lent = false;
    }

    /// Publishes the first `count` bytes of the room.
    ///
    /// # Panics
    /// There are not so many.
    pub(crate) fn publish<P: Platform>(&mut self, stream: &Stream<P>, count: usize) {
        assert!(count <= CAPACITY - self.used(), "what is published was room before");
        self.tail = self.tail.wrapping_add(count as u64);
        self.lent = false;
        stream.produced.tail.store(self.tail, Release);
    }

    /// How many bytes were published.
    pub(crate) fn tail(&self) -> u64 {
        self.tail
    }

    /// Where the room behind them begins. It stays there from [`room`](Self::room) until it is published or given
    /// back.
    pub(crate) fn place(&self) -> usize {
        offset(self.tail, self.origin)
    }

    /// How many bytes of the ring are taken, as far as the producer knows.
    pub(crate) fn used(&self) -> usize {
        self.tail.wrapping_sub(self.head) as usize
    }

    /// Looks how much the consumer has taken.
    ///
    /// # Errors
    /// It has taken what isn't there.
    pub(crate) fn look<P: Platform>(&mut self, stream: &Stream<P>) -> Result<(), Breach> {
        let head = stream.head();
        if self.tail.wrapping_sub(head) > self.tail.wrapping_sub(self.head) {
            return Err(Breach);
        }
        self.head = head;
        Ok(())
    }

    /// Lets the next byte lie at the ring's beginning, if the ring is empty and nothing stands behind the
    /// tail. True: it is, and all memory of the ring is the producer's.
    ///
    /// # Errors
    /// The consumer has taken what isn't there.
    pub(crate) fn rewind<P: Platform>(&mut self, stream: &Stream<P>) -> Result<bool, Breach> {
        self.look(stream)?;
        if self.used() > 0 || self.lent {
            return Ok(false);
        }
        self.look_at = self.tail;
        self.origin = self.tail;
        stream.produced.origin.store(self.origin, Relaxed);
        Ok(true)
    }
}

/// What the consumer knows for itself.
#[derive(Debug, Default)]
pub(crate) struct Consumer {
    head: u64,
}

impl Consumer {
    /// What was published and not taken, in one piece.
    ///
    /// # Errors
    /// The producer has published more than there is room for, or less than before.
    pub(crate) fn published<P: Platform>(&self, stream: &Stream<P>) -> Result<Span, Breach> {
        let length = stream.tail().wrapping_sub(self.head);
        if length > CAPACITY as u64 {
            return Err(Breach);
        }
        Ok(Span { offset: self.place(stream), length: length as usize })
    }

    /// Gives the room of the first `count` bytes back.
    pub(crate) fn take<P: Platform>(&mut self, stream: &Stream<P>, count: usize) {
        self.head = self.head.wrapping_add(count as u64);
        stream.consumed.head.store(self.head, Release);
    }

    /// How many bytes were taken.
    pub(crate) fn taken(&self) -> u64 {
        self.head
    }

    /// What stands behind all that was published. To be asked for when the producer is dead, and all
    /// that it has published was taken.
    pub(crate) fn unpublished<P: Platform>(&self, stream: &Stream<P>) -> Span {
        Span { offset: self.place(stream), length: CAPACITY }
    }

    fn place<P: Platform>(&self, stream: &Stream<P>) -> usize {
        offset(self.head, stream.produced.origin.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::thread;

    use super::*;
    use crate::shm::model::{self, Model, be, explore, explore_deaths, mortal};
    use crate::shm::system::System;

    fn stream() -> Stream<System> {
        Stream::new(AtomicU64::default)
    }

    #[test]
    fn an_empty_ring_begins_anew() {
        let (stream, mut producer, mut consumer) =
            (stream(), Producer::default(), Consumer::default());
        for _ in 0..1000 {
            let room = producer.room(&stream, 5000).unwrap();
            assert!(room.offset < 2 * NEAR as usize && room.length >= 5000);
            producer.publish(&stream, 5000);
            let span = consumer.published(&stream).unwrap();
            assert_eq!(span, Span { offset: room.offset, length: 5000 });
            consumer.take(&stream, 5000);
        }
        assert_eq!(consumer.taken(), 5_000_000);
    }

    #[test]
    fn what_is_written_and_not_published_stays_in_its_place() {
        let (stream, mut producer, mut consumer) =
            (stream(), Producer::default(), Consumer::default());
        let count = 3 * NEAR as usize;
        producer.room(&stream, count).unwrap();
        producer.publish(&stream, count);
        let room = producer.room(&stream, 10).unwrap();
        consumer.take(&stream, count);
        assert_eq!(producer.room(&stream, 20).unwrap().offset, room.offset);
        assert_eq!(consumer.unpublished(&stream).offset, room.offset);
        assert!(!producer.rewind(&stream).unwrap());
        producer.publish(&stream, 20);
        consumer.take(&stream, 20);
        assert!(producer.rewind(&stream).unwrap());
        assert_eq!(producer.room(&stream, 0).unwrap(), Span { offset: 0, length: CAPACITY });
    }

    #[test]
    fn a_full_ring_has_no_room_until_something_is_taken() {
        let (stream, mut producer, mut consumer) =
            (stream(), Producer::default(), Consumer::default());
        assert_eq!(producer.room(&stream, 1).unwrap().length, CAPACITY);
        producer.publish(&stream, CAPACITY - 1);
        assert_eq!(producer.room(&stream, 2).unwrap(), Span { offset: CAPACITY - 1, length: 1 });
        producer.publish(&stream, 1);
        assert_eq!(producer.room(&stream, 1).unwrap().length, 0);
        assert_eq!(consumer.published(&stream).unwrap().length, CAPACITY);
        consumer.take(&stream, 10);
        assert_eq!(producer.room(&stream, 1).unwrap(), Span { offset: 0, length: 10 });
    }

    #[test]
    fn forged_counts_are_breaches() {
        let (stream, mut producer, mut consumer) =
            (stream(), Producer::default(), Consumer::default());
        producer.publish(&stream, 100);
        consumer.take(&stream, 50);
        producer.look(&stream).unwrap();
        for forged in [49, 101, u64::MAX, 1 << 63] {
            stream.consumed.head.store(forged, Relaxed);
            assert_eq!(producer.look(&stream), Err(Breach), "{forged}");
            assert_eq!(producer.room(&stream, CAPACITY), Err(Breach));
        }
        for forged in [49, 51 + CAPACITY as u64, u64::MAX] {
            stream.produced.tail.store(forged, Relaxed);
            assert_eq!(consumer.published(&stream), Err(Breach), "{forged}");
        }
        stream.produced.tail.store(60, Relaxed);
        stream.produced.origin.store(u64::MAX, Relaxed);
        let span = consumer.published(&stream).unwrap();
        assert!(span.offset < CAPACITY && span.length == 10);
    }

    /// Real threads, each byte in its place, whatever the lengths.
    #[test]
    fn every_byte_arrives() {
        const TOTAL: u64 = 20_000_000;
        let shared: Arc<(Stream<System>, Vec<AtomicU64>)> =
            Arc::new((stream(), (0..CAPACITY).map(|_| AtomicU64::new(0)).collect()));
        let sender = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (stream, cells) = &*shared;
                let (mut producer, mut sent, mut next) = (Producer::default(), 0, 1_u64);
                while sent < TOTAL {
                    next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let wanted = (next >> 40) % (if next & 1 << 20 == 0 { 10 } else { 50_000 });
                    let wanted = wanted.min(TOTAL - sent) as usize;
                    let room = producer.room(stream, wanted).unwrap();
                    let count = wanted.min(room.length);
                    for i in 0..count {
                        cells[(room.offset + i) % CAPACITY].store(sent, Relaxed);
                        sent += 1;
                    }
                    producer.publish(stream, count);
                }
            })
        };
        let (stream, cells) = &*shared;
        let (mut consumer, mut got) = (Consumer::default(), 0);
        while got < TOTAL {
            let span = consumer.published(stream).unwrap();
            for i in 0..span.length {
                assert_eq!(cells[(span.offset + i) % CAPACITY].load(Relaxed), got);
                got += 1;
            }
            consumer.take(stream, span.length);
        }
        sender.join().unwrap();
    }

    /// A stream with the few cells that a model looks at: the first ones behind each origin.
    struct Modelled {
        stream: Stream<Model>,
        cells: Vec<model::Word64>,
    }

    impl Modelled {
        fn new() -> std::rc::Rc<Self> {
            let cells = (0..2).map(|_| model::Word64::default()).collect();
            std::rc::Rc::new(Self { stream: Stream::new(model::Word64::default), cells })
        }
    }

    /// So long that the next message's room is looked for at the beginning again.
    const LONG: usize = NEAR as usize + 1;

    fn send(modelled: &Modelled, producer: &mut Producer, value: u64) {
        let room = producer.room(&modelled.stream, LONG).unwrap();
        // Of a long message only the first byte matters; where the ring went on, it has its own cell.
        modelled.cells[usize::from(room.offset != 0)].store(value, Relaxed);
        producer.publish(&modelled.stream, LONG);
    }

    fn receive(modelled: &Modelled, consumer: &mut Consumer) -> Option<u64> {
        let span = consumer.published(&modelled.stream).unwrap();
        if span.length == 0 {
            return None;
        }
        let value = modelled.cells[usize::from(span.offset != 0)].load(Relaxed);
        consumer.take(&modelled.stream, LONG);
        Some(value)
    }

    #[test]
    fn a_moved_origin_is_seen_with_the_byte_behind_it() {
        explore(|| {
            let modelled = Modelled::new();
            let producer = {
                let modelled = std::rc::Rc::clone(&modelled);
                model::process(2, move || {
                    let mut producer = Producer::default();
                    send(&modelled, &mut producer, 1);
                    send(&modelled, &mut producer, 2);
                })
            };
            be(1, || {
                let mut consumer = Consumer::default();
                let got: Vec<u64> =
                    (0..3).filter_map(|_| receive(&modelled, &mut consumer)).collect();
                assert!([&[][..], &[1], &[1, 2]].contains(&&got[..]), "{got:?}");
            });
            producer.join();
        });
    }

    #[test]
    fn a_dead_producer_has_published_a_message_or_not() {
        explore_deaths(|steps| {
            let modelled = Modelled::new();
            let producer = {
                let modelled = std::rc::Rc::clone(&modelled);
                mortal(2, steps, move || {
                    let mut producer = Producer::default();
                    send(&modelled, &mut producer, 1);
                    send(&modelled, &mut producer, 2);
                })
            };
            be(1, || {
                let mut consumer = Consumer::default();
                let early = receive(&modelled, &mut consumer);
                let lived = producer.join().is_some();
                let mut got: Vec<u64> = early.into_iter().collect();
                while let Some(value) = receive(&modelled, &mut consumer) {
                    got.push(value);
                }
                assert!([&[][..], &[1], &[1, 2]].contains(&&got[..]), "{got:?}");
                assert!(!lived || got.len() == 2);
            });
        });
    }
}
