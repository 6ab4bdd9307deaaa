//! Processes that are killed at any instant while they use queues and pipes: nothing is lost, doubled or
//! out of order, the others go on, and nothing is left.
//!
//! What a victim has done stands in a plain file of its own, which outlives it. `PROCESSION_KILLS` sets how many are killed each time; the
//! fewer that die by default take a quarter of a minute in all.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use procession::{
    Connection, GetError, JoinableQueue, Process, PutError, Queue, RecvError, SendError, pipe,
    pipe_one_way, task,
};
use procession_tests::scratch::Scratch;
use procession_tests::{alone, heap_memory};
use serde::{Deserialize, Serialize};

/// Whoever isn't killed has to get on within this time.
const SECOND: Duration = Duration::from_secs(1);

fn kills(default: u32) -> u32 {
    std::env::var("PROCESSION_KILLS").map_or(default, |text| text.parse().unwrap())
}

/// A linear congruential generator: the instants of the deaths. Its seed is printed, for another run.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seed = std::env::var("PROCESSION_SEED")
            .map_or(now.as_nanos() as u64, |text| text.parse().unwrap());
        println!("PROCESSION_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % end
    }

    /// Within the victim's first work, mostly.
    fn instant(&mut self) -> Duration {
        Duration::from_micros(self.below(3000))
    }
}

/// How many a process has done of what it does in turn, in a file that outlives it.
struct Count(File);

impl Count {
    fn open(path: &str) -> Self {
        let mut options = OpenOptions::new();
        Self(options.read(true).write(true).create(true).truncate(false).open(path).unwrap())
    }

    fn set(&self, count: u32) {
        self.0.write_all_at(&count.to_le_bytes(), 0).unwrap();
    }

    fn get(&self) -> u32 {
        let mut bytes = [0; 4];
        self.0.read_exact_at(&mut bytes, 0).map_or(0, |()| u32::from_le_bytes(bytes))
    }
}

/// What the messages are made of.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
enum Load {
    Small,
    /// Fills a ring's buffer soon, so that it changes buffers.
    Middle,
    /// In a parcel.
    Large,
    /// In a parcel with handles.
    Handles,
    Mixed,
}

#[derive(Serialize, Deserialize)]
struct Message {
    victim: u32,
    number: u32,
    text: String,
    handle: Option<(Queue<u32>, Connection<u32, u32>)>,
}

impl Message {
    fn new(victim: u32, number: u32, load: Load) -> Self {
        let (length, has_handle) = match (load, number % 4) {
            (Load::Small, _) | (Load::Mixed, 0) => (number % 10, false),
            (Load::Middle, _) | (Load::Mixed, 1) => (number * 997 % 20_000, false),
            (Load::Large, _) | (Load::Mixed, 2) => (40_000 + number * 997 % 100_000, false),
            (Load::Handles, _) | (Load::Mixed, _) => (10, true),
        };
        let handle = has_handle.then(|| {
            let (queue, (near, far)) = (Queue::unbounded().unwrap(), pipe().unwrap());
            queue.put(number).unwrap();
            near.send(number).unwrap();
            (queue, far)
        });
        Self { victim, number, text: "x".repeat(length as usize), handle }
    }

    /// Everything in it is of one number.
    fn check(&self, load: Load) {
        let expected = match (load, self.number % 4) {
            (Load::Small, _) | (Load::Mixed, 0) => self.number % 10,
            (Load::Middle, _) | (Load::Mixed, 1) => self.number * 997 % 20_000,
            (Load::Large, _) | (Load::Mixed, 2) => 40_000 + self.number * 997 % 100_000,
            (Load::Handles, _) | (Load::Mixed, _) => 10,
        };
        assert!(self.text.len() == expected as usize && self.text.bytes().all(|b| b == b'x'));
        if let Some((queue, end)) = &self.handle {
            assert_eq!((queue.try_get().unwrap(), end.recv().unwrap()), (self.number, self.number));
            // Its maker has let the other end go, or has died, or is about to do either.
            if self.number.is_multiple_of(16) {
                assert!(matches!(end.recv_timeout(SECOND), Err(RecvError::Disconnected)));
            }
        }
    }
}

#[task]
fn put_on(queue: Queue<Message>, victim: u32, load: Load, count: String) {
    let count = Count::open(&count);
    for number in 0.. {
        let message = Message::new(victim, number, load);
        match queue.put(message) {
            Ok(()) => count.set(number + 1),
            Err(PutError::Closed(_)) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Gets the messages of one victim after the other, and checks what each one has put.
struct Tally {
    next: Vec<u32>,
    load: Load,
}

impl Tally {
    fn new(victims: u32, load: Load) -> Self {
        Self { next: vec![0; victims as usize], load }
    }

    fn take(&mut self, message: Message) {
        message.check(self.load);
        let next = &mut self.next[message.victim as usize];
        assert_eq!(message.number, *next, "of victim {}", message.victim);
        *next += 1;
    }

    /// All that is known to have been put was got, and one more at most.
    fn assert_complete(&self, victim: u32, accepted: u32) {
        let got = self.next[victim as usize];
        assert!(
            got == accepted || got == accepted + 1,
            "victim {victim} has put {accepted}, of which {got} were got"
        );
    }
}

/// Kills one producer after the other, while others are put and get.
fn producers_die(queue: &Queue<Message>, load: Load, kills: u32) {
    let (scratch, mut random) = (Scratch::new(), Random::new());
    let mut tally = Tally::new(kills + 1, load);
    let mut most = Duration::ZERO;
    for victim in 0..kills {
        let path = scratch.path(&victim.to_string());
        let process = Process::new(put_on, (queue.clone(), victim, load, path.clone()));
        let process = process.start().unwrap();
        let until = Instant::now() + random.instant() + Duration::from_millis(2);
        while Instant::now() < until {
            match queue.get_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(message) => tally.take(message),
                Err(GetError::TimedOut) => break,
                Err(error) => panic!("{error}"),
            }
        }
        process.kill().unwrap();
        // The survivors go on: those that get, and those that put.
        let start = Instant::now();
        let mut own = Some(Message::new(kills, tally.next[kills as usize], load));
        while let Some(message) = own.take() {
            own = queue.try_put(message).map_err(PutError::into_inner).err();
            if own.is_some() {
                tally.take(queue.get_timeout(SECOND).unwrap());
            }
        }
        most = most.max(start.elapsed());
        process.join().unwrap_err();
        loop {
            match queue.try_get() {
                Ok(message) => tally.take(message),
                Err(GetError::Empty) => break,
                Err(error) => panic!("{error}"),
            }
        }
        tally.assert_complete(victim, Count::open(&path).get());
        assert_eq!(tally.next[kills as usize], victim + 1);
    }
    assert!(queue.is_empty());
    let all: u32 = tally.next.iter().sum();
    println!("{load:?}: {kills} killed, {all} messages, the longest wait {most:?}");
    assert!(most < SECOND);
    assert!(all > kills, "none has got to put anything");
}

#[test]
fn producers_of_small_messages_die() {
    alone(|| producers_die(&Queue::unbounded().unwrap(), Load::Small, kills(100)));
}

#[test]
fn producers_of_a_bounded_queue_die() {
    alone(|| producers_die(&Queue::bounded(3).unwrap(), Load::Small, kills(40)));
    alone(|| producers_die(&Queue::bounded(3).unwrap(), Load::Mixed, kills(40)));
}

#[test]
fn producers_die_while_the_ring_grows() {
    alone(|| producers_die(&Queue::unbounded().unwrap(), Load::Middle, kills(40)));
}

#[test]
fn producers_of_parcels_die() {
    alone(|| producers_die(&Queue::unbounded().unwrap(), Load::Large, kills(40)));
}

#[test]
fn producers_of_handles_die() {
    alone(|| producers_die(&Queue::unbounded().unwrap(), Load::Handles, kills(40)));
    alone(|| producers_die(&Queue::unbounded().unwrap(), Load::Mixed, kills(40)));
}

/// Says for each message that it has it, before it takes the next one.
#[task]
fn get_on(queue: Queue<Message>, load: Load, count: String) {
    let file = Count::open(&count).0;
    for (i, message) in queue.iter().enumerate() {
        let message = message.unwrap();
        message.check(load);
        file.write_all_at(&(message.number + 1).to_le_bytes(), i as u64 * 4).unwrap();
    }
}

fn confirmed(path: &str) -> Vec<u32> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let numbers = bytes.chunks_exact(4);
    numbers.map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap()) - 1).collect()
}

/// Kills one consumer after the other, two at a time, while this process puts.
fn consumers_die(queue: &Queue<Message>, load: Load, kills: u32) {
    let (scratch, mut random) = (Scratch::new(), Random::new());
    let (mut put, mut lost) = (0, 0);
    let mut got_by = Vec::new();
    let mut most = Duration::ZERO;
    let start = |i: u32| {
        let path = scratch.path(&i.to_string());
        let process = Process::new(get_on, (queue.clone(), load, path.clone()));
        (process.start().unwrap(), path)
    };
    let mut running = std::collections::VecDeque::from([start(0)]);
    for i in 1..=kills {
        running.push_back(start(i));
        let until = Instant::now() + random.instant();
        while Instant::now() < until {
            let start = Instant::now();
            match queue.put_timeout(Message::new(0, put, load), SECOND) {
                Ok(()) => put += 1,
                Err(error) => panic!("{error}"),
            }
            most = most.max(start.elapsed());
            // Not too far ahead, where there is no bound.
            if queue.len() > 200 {
                thread::sleep(Duration::from_micros(100));
            }
        }
        let (process, path) = running.pop_front().unwrap();
        process.kill().unwrap();
        process.join().unwrap_err();
        got_by.push(confirmed(&path));
    }
    queue.close();
    for (process, path) in running {
        process.join().unwrap();
        got_by.push(confirmed(&path));
    }
    assert!(queue.is_empty());
    let mut seen = vec![false; put as usize];
    for list in &got_by {
        assert!(list.is_sorted(), "out of order: {list:?}");
        for number in list {
            assert!(!std::mem::replace(&mut seen[*number as usize], true), "{number} came twice");
        }
    }
    // Each of the dead has taken one away at most.
    lost += seen.iter().filter(|seen| !**seen).count();
    println!("{load:?}: {kills} killed, {put} messages, {lost} lost, the longest wait {most:?}");
    assert!(lost <= kills as usize, "{lost} were lost by {kills} deaths");
}

#[test]
fn consumers_of_small_messages_die() {
    alone(|| consumers_die(&Queue::unbounded().unwrap(), Load::Small, kills(100)));
}

#[test]
fn consumers_of_a_bounded_queue_die() {
    alone(|| consumers_die(&Queue::bounded(2).unwrap(), Load::Mixed, kills(40)));
}

#[test]
fn consumers_die_while_the_ring_grows() {
    alone(|| consumers_die(&Queue::unbounded().unwrap(), Load::Middle, kills(40)));
}

#[test]
fn consumers_of_parcels_and_handles_die() {
    alone(|| consumers_die(&Queue::unbounded().unwrap(), Load::Large, kills(40)));
    alone(|| consumers_die(&Queue::unbounded().unwrap(), Load::Handles, kills(40)));
}

#[task]
fn converse(end: Connection<Message, Message>, load: Load, count: String) {
    let count = Count::open(&count);
    for number in 0.. {
        if end.send(Message::new(0, number, load)).is_err() {
            return;
        }
        count.set(number + 1);
        if let Ok(message) = end.try_recv() {
            message.check(load);
        }
    }
}

/// Kills the other end of one pipe after the other, in the middle of a conversation.
fn peers_die(load: Load, kills: u32) {
    let (scratch, mut random) = (Scratch::new(), Random::new());
    let (mut all, mut most) = (0, Duration::ZERO);
    for i in 0..kills {
        let path = scratch.path(&i.to_string());
        let (ours, theirs) = pipe::<Message, Message>().unwrap();
        let process = Process::new(converse, (theirs, load, path.clone())).start().unwrap();
        let (mut tally, mut sent) = (Tally::new(1, load), 0);
        tally.take(ours.recv().unwrap());
        let until = Instant::now() + random.instant();
        let mut killed = None;
        loop {
            if killed.is_none() && Instant::now() >= until {
                process.kill().unwrap();
                killed = Some(Instant::now());
            }
            let message = Message::new(0, sent, load);
            match ours.send_timeout(message, Duration::from_micros(100)) {
                Ok(()) => sent += 1,
                Err(SendError::TimedOut(_) | SendError::Disconnected(_)) => {}
                Err(error) => panic!("{error}"),
            }
            match ours.recv_timeout(Duration::from_micros(100)) {
                Ok(message) => tally.take(message),
                Err(RecvError::TimedOut) => {}
                Err(RecvError::Disconnected) => break,
                Err(error) => panic!("{error}"),
            }
        }
        most = most.max(killed.expect("only a dead one hangs up").elapsed());
        assert!(ours.send_bytes(b"").is_err());
        process.join().unwrap_err();
        tally.assert_complete(0, Count::open(&path).get());
        all += tally.next[0];
    }
    println!("{load:?}: {kills} killed, {all} messages, the latest news {most:?}");
    assert!(most < SECOND);
}

#[test]
fn peers_with_small_messages_die() {
    alone(|| peers_die(Load::Small, kills(100)));
}

#[test]
fn peers_with_all_sorts_of_messages_die() {
    alone(|| peers_die(Load::Middle, kills(40)));
    alone(|| peers_die(Load::Large, kills(40)));
    alone(|| peers_die(Load::Handles, kills(40)));
    alone(|| peers_die(Load::Mixed, kills(40)));
}

#[test]
fn a_hundred_thousand_of_each_leave_nothing() {
    alone(|| {
        let make = || {
            drop(Queue::<u32>::unbounded().unwrap());
            drop(JoinableQueue::<u32>::bounded(5).unwrap());
            drop(pipe::<u32, u32>().unwrap());
            drop(pipe_one_way::<u32>().unwrap());
        };
        (0..100).for_each(|_| make());
        let before = heap_memory();
        let start = Instant::now();
        (0..100_000).for_each(|_| make());
        println!("100,000 of each in {:?}", start.elapsed());
        assert_eq!(heap_memory(), before);
        // Many at the same time, too, are used again.
        let many = || (0..2000).map(|_| pipe::<u32, u32>().unwrap()).collect::<Vec<_>>();
        drop(many());
        let before = heap_memory();
        (0..10).for_each(|_| drop(many()));
        assert_eq!(heap_memory(), before);
    });
}
