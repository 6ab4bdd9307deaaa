//! Pipes, and waiting for several things at once.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::pthread::{pthread_kill, pthread_self};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::unistd::Pid;
use procession::{
    Connection, JoinableQueue, Pool, Process, Queue, Receiver, RecvError, SendError, Sender,
    SimpleQueue, Waitable, pipe, pipe_one_way, task, wait,
};
use procession_tests::gate::{gated, until_the_gate_opens};
use procession_tests::scratch::{Scratch, note, notes};
use procession_tests::{alone, is_running, wait_until};

const MOMENT: Duration = Duration::from_millis(20);
/// Within this time news of a death has come.
const SECOND: Duration = Duration::from_secs(1);

fn is_over<S, R: serde::de::DeserializeOwned>(end: &Connection<S, R>) -> bool {
    matches!(end.recv_timeout(SECOND), Err(RecvError::Disconnected))
}

#[test]
fn both_ends_may_be_in_one_process() {
    alone(|| {
        let (a, b) = pipe::<u32, String>().unwrap();
        assert!(matches!(b.try_recv(), Err(RecvError::Empty)));
        assert!(!b.poll(Duration::ZERO));
        let start = Instant::now();
        assert!(matches!(b.recv_timeout(MOMENT), Err(RecvError::TimedOut)));
        assert!(!b.poll(MOMENT) && start.elapsed() >= 2 * MOMENT);
        a.send(1).unwrap();
        b.send("two".to_owned()).unwrap();
        assert!(b.poll(Duration::ZERO) && a.poll(Duration::MAX));
        assert_eq!((b.recv().unwrap(), a.try_recv().unwrap()), (1, "two".to_owned()));
    });
}

#[test]
fn what_was_sent_before_the_end_is_received() {
    alone(|| {
        let (a, b) = pipe::<u32, u32>().unwrap();
        (0..1000).for_each(|i| a.send(i).unwrap());
        drop(a);
        assert!(b.poll(Duration::ZERO));
        (0..1000).for_each(|i| assert_eq!(b.recv().unwrap(), i));
        assert!(b.poll(Duration::ZERO));
        assert!(matches!(b.recv(), Err(RecvError::Disconnected)));
        assert!(matches!(b.try_recv(), Err(RecvError::Disconnected)));
        assert!(matches!(b.send(7), Err(SendError::Disconnected(7))));
        assert!(matches!(b.send_timeout(7, MOMENT), Err(SendError::Disconnected(7))));
        assert!(b.send_bytes(b"x").is_err());
    });
}

#[test]
fn one_way_ends_go_one_way() {
    alone(|| {
        let (sender, receiver) = pipe_one_way::<String>().unwrap();
        sender.send("one".to_owned()).unwrap();
        drop(sender);
        assert_eq!(receiver.recv().unwrap(), "one");
        assert!(is_over(&receiver));

        let (sender, receiver) = pipe_one_way::<u32>().unwrap();
        // The sender learns of the receiver's end as of its peer's.
        assert!(!sender.poll(Duration::ZERO));
        drop(receiver);
        assert!(sender.poll(SECOND));
        assert!(sender.send(1).is_err());
    });
}

/// Sends its number, then waits for its end.
#[task]
fn send_and_stay(end: Connection<u32, u32>, count: u32) {
    (0..count).for_each(|i| end.send(i).unwrap());
    let _ = end.recv();
}

#[test]
fn a_killed_peer_is_noticed_within_a_second() {
    alone(|| {
        for _ in 0..20 {
            let (ours, theirs) = pipe::<u32, u32>().unwrap();
            let process = Process::new(send_and_stay, (theirs, 100)).start().unwrap();
            assert_eq!(ours.recv().unwrap(), 0);
            wait_until("all is sent", || ours.poll(Duration::ZERO));
            thread::scope(|scope| {
                let blocked = scope.spawn(|| {
                    let mut received = 0;
                    loop {
                        match ours.recv() {
                            Ok(_) => received += 1,
                            Err(RecvError::Disconnected) => return (received, Instant::now()),
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
                thread::sleep(Duration::from_millis(5));
                let start = Instant::now();
                process.kill().unwrap();
                let (received, at) = blocked.join().unwrap();
                assert!(received <= 99);
                assert!(at.duration_since(start) < SECOND);
            });
            assert!(ours.poll(Duration::ZERO));
            assert!(matches!(ours.send(7), Err(SendError::Disconnected(7))));
        }
    });
}

/// Never receives.
#[task]
fn deaf(end: Connection<(), String>, gate: Receiver<()>) {
    let _ = gate.recv();
    drop(end);
}

#[test]
fn a_blocked_sender_notices_the_end() {
    alone(|| {
        for kill in [false, true] {
            let ((ours, theirs), (opener, gate)) =
                (pipe::<String, ()>().unwrap(), pipe_one_way().unwrap());
            let process = Process::new(deaf, (theirs, gate)).start().unwrap();
            let text = || "x".repeat(10_000);
            while ours.send_timeout(text(), MOMENT).is_ok() {}
            let late = ours.send_timeout(text(), MOMENT).unwrap_err();
            assert!(matches!(late, SendError::TimedOut(_)), "{late}");
            thread::scope(|scope| {
                let blocked = scope.spawn(|| ours.send(text()).unwrap_err());
                thread::sleep(MOMENT);
                assert!(!blocked.is_finished());
                let start = Instant::now();
                if kill {
                    process.kill().unwrap()
                } else {
                    drop(opener)
                }
                assert!(matches!(blocked.join().unwrap(), SendError::Disconnected(_)));
                assert!(start.elapsed() < SECOND);
            });
        }
    });
}

#[task]
fn echo(end: Connection<Vec<u8>, Vec<u8>>) {
    while let Ok(bytes) = end.recv() {
        end.send(bytes).unwrap();
    }
}

#[test]
fn messages_arrive_whole_and_apart() {
    alone(|| {
        let (ours, theirs) = pipe::<Vec<u8>, Vec<u8>>().unwrap();
        let process = Process::new(echo, (theirs,)).start().unwrap();
        let sizes: Vec<usize> = (0..64)
            .chain(4000..4200)
            .chain((32 << 10) - 40..(32 << 10) + 8)
            .chain([0, 0, (256 << 10) - 1, 256 << 10, 300 << 10, 1 << 20, 20 << 20, 0, 1])
            .collect();
        let ours = &ours;
        thread::scope(|scope| {
            let sending = scope.spawn(|| {
                for (i, size) in sizes.iter().enumerate() {
                    ours.send(vec![i as u8; *size]).unwrap();
                }
            });
            for (i, size) in sizes.iter().enumerate() {
                let bytes = ours.recv().unwrap();
                assert!(bytes == vec![i as u8; *size], "message {i} of {size} bytes has changed");
            }
            sending.join().unwrap();
        });
        process.terminate().unwrap();
    });
}

#[test]
fn bytes_go_without_serde() {
    alone(|| {
        let (a, b) = pipe::<(), ()>().unwrap();
        for length in [0, 0, 1, 5000, 1 << 20, 0] {
            a.send_bytes(&vec![7; length]).unwrap();
            assert_eq!(b.recv_bytes().unwrap(), vec![7; length]);
        }
        a.send_bytes(b"").unwrap();
        a.send(()).unwrap();
        assert!(b.poll(Duration::ZERO));
        assert_eq!(b.recv_bytes().unwrap(), b"");
        b.recv().unwrap();
    });
}

#[test]
fn a_limit_refuses_a_message_and_nothing_else() {
    alone(|| {
        let (a, b) = pipe::<String, String>().unwrap();
        b.set_limit(100);
        for long in [200, 40_000, 200_000] {
            a.send("x".repeat(long)).unwrap();
            a.send("short".to_owned()).unwrap();
            let error = b.recv().unwrap_err();
            let RecvError::TooLong { length, limit: 100 } = error else { panic!("{error}") };
            assert!(length >= long as u64);
            assert_eq!(b.recv().unwrap(), "short");
        }
        a.send_bytes(&[1; 100]).unwrap();
        a.send_bytes(&[1; 101]).unwrap();
        a.send_bytes(&[1; 101]).unwrap();
        assert_eq!(b.recv_bytes().unwrap().len(), 100);
        assert!(matches!(b.recv_bytes(), Err(RecvError::TooLong { length: 101, limit: 100 })));
        assert_eq!(b.recv_bytes_limit(101).unwrap().len(), 101);
        // The limit goes with the end, and is the end's own.
        b.send("y".repeat(1000)).unwrap();
        assert_eq!(a.recv().unwrap().len(), 1000);
        let (there, here) = pipe_one_way().unwrap();
        there.send(b).unwrap();
        let b: Connection<String, String> = here.recv().unwrap();
        a.send("x".repeat(200)).unwrap();
        assert!(matches!(b.recv(), Err(RecvError::TooLong { limit: 100, .. })));
        b.set_limit(u64::MAX);
        a.send("x".repeat(200)).unwrap();
        assert_eq!(b.recv().unwrap().len(), 200);
    });
}

#[test]
fn a_refused_message_lets_its_handles_go() {
    alone(|| {
        let (a, b) = pipe::<(Connection<(), ()>, String), ()>().unwrap();
        let (near, far) = pipe::<(), ()>().unwrap();
        b.set_limit(10);
        a.send((far, "x".repeat(100))).unwrap();
        assert!(!near.poll(Duration::ZERO));
        assert!(matches!(b.recv(), Err(RecvError::TooLong { .. })));
        assert!(is_over(&near));

        // So does one that isn't what was asked for, and one that is taken as bytes.
        let (near, far) = pipe::<(), ()>().unwrap();
        b.set_limit(u64::MAX);
        a.send((far, "x".repeat(100))).unwrap();
        b.recv_bytes().unwrap();
        assert!(is_over(&near));

        // And what is on its way when nobody is left to receive it.
        let (near, far) = pipe::<(), ()>().unwrap();
        a.send((far, String::new())).unwrap();
        drop(a);
        assert!(!near.poll(Duration::ZERO));
        drop(b);
        assert!(is_over(&near));
    });
}

#[test]
fn threads_use_both_directions_at_once() {
    alone(|| {
        const COUNT: u32 = 20_000;
        let (a, b) = pipe::<u32, u32>().unwrap();
        let (sum, received) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for (from, to) in [(&a, &b), (&b, &a)] {
                scope.spawn(move || (0..COUNT).for_each(|i| from.send(i).unwrap()));
                for _ in 0..2 {
                    let (sum, received) = (&sum, &received);
                    scope.spawn(move || {
                        let mut last = None;
                        for _ in 0..COUNT / 2 {
                            let i = to.recv().unwrap();
                            assert!(last < Some(i), "{i} came after {last:?}");
                            last = Some(i);
                            sum.fetch_add(i as usize, Ordering::Relaxed);
                            received.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            }
        });
        let all = COUNT as usize;
        assert_eq!(received.into_inner(), 2 * all);
        assert_eq!(sum.into_inner(), all * (all - 1));
    });
}

#[task]
fn pass_on(ends: Receiver<Connection<u32, u32>>, to: Sender<Connection<u32, u32>>) {
    while let Ok(end) = ends.recv() {
        end.send(1).unwrap();
        to.send(end).unwrap();
    }
}

#[test]
fn an_end_travels_through_pipes() {
    alone(|| {
        let (to, there) = pipe_one_way().unwrap();
        let (back, from) = pipe_one_way().unwrap();
        let process = Process::new(pass_on, (there, back)).start().unwrap();
        for _ in 0..50 {
            let (mut near, mut far) = pipe::<u32, u32>().unwrap();
            for _ in 0..3 {
                // What was sent before the journey is received after it.
                near.send(2).unwrap();
                to.send(far).unwrap();
                far = from.recv().unwrap();
                assert_eq!((near.recv().unwrap(), far.recv().unwrap()), (1, 2));
                std::mem::swap(&mut near, &mut far);
            }
            drop(near);
            assert!(is_over(&far));
        }
        drop(to);
        process.join().unwrap();
    });
}

/// Starts a process that goes on without it, and dies.
#[task]
fn orphan_maker(end: Connection<u32, u32>, log: String) {
    let orphan = Process::new(orphan, (end, log)).start().unwrap();
    let _ = orphan.join();
}

#[task]
fn orphan(end: Connection<u32, u32>, log: String) {
    note(&log, std::process::id());
    end.send(1).unwrap();
    let _ = end.recv();
}

#[test]
fn a_peer_that_is_killed_after_its_parent_is_noticed() {
    alone(|| {
        let (scratch, (ours, theirs)) = (Scratch::new(), pipe().unwrap());
        let log = scratch.path("log");
        let parent = Process::new(orphan_maker, (theirs, log.clone())).start().unwrap();
        assert_eq!(ours.recv().unwrap(), 1);
        let orphan: u32 = notes(&log)[0].parse().unwrap();
        parent.kill().unwrap();
        parent.join().unwrap_err();
        assert!(is_running(orphan) && !ours.poll(MOMENT));
        kill(Pid::from_raw(orphan as i32), Signal::SIGKILL).unwrap();
        assert!(is_over(&ours));
        wait_until("somebody has reaped the orphan", || !is_running(orphan));
    });
}

#[task]
fn pool_with_end(end: Connection<u32, u32>) {
    let pool = Pool::builder().processes(1).build().unwrap();
    let _ = pool.apply(send_and_stay, (end, 1));
}

#[test]
fn a_peer_that_dies_with_its_parent_is_noticed() {
    alone(|| {
        for _ in 0..5 {
            let (ours, theirs) = pipe().unwrap();
            let parent = Process::new(pool_with_end, (theirs,)).start().unwrap();
            assert_eq!(ours.recv().unwrap(), 0);
            parent.kill().unwrap();
            assert!(is_over(&ours));
        }
    });
}

#[test]
fn wait_mixes_all_that_can_be_waited_for() {
    alone(|| {
        let (process, gate) = gated(Process::new(until_the_gate_opens, (1,)));
        let (queue, joinable) = (Queue::unbounded().unwrap(), JoinableQueue::unbounded().unwrap());
        let simple = SimpleQueue::new().unwrap();
        let ((near, far), (reader, mut writer)) =
            (pipe::<u32, u32>().unwrap(), std::io::pipe().unwrap());
        let wait_for = |timeout| {
            let all: [&dyn Waitable; 6] = [&process, &queue, &joinable, &simple, &near, &reader];
            wait(&all, timeout).unwrap()
        };
        let now = || wait_for(Some(Duration::ZERO));
        assert!(now().is_empty());
        let start = Instant::now();
        assert!(wait_for(Some(MOMENT)).is_empty());
        assert!(start.elapsed() >= MOMENT);

        let woken_by = |wake: &mut (dyn FnMut() + Send), index: usize| {
            thread::scope(|scope| {
                let waiter = scope.spawn(|| wait_for(None));
                thread::sleep(MOMENT);
                assert!(!waiter.is_finished());
                wake();
                assert_eq!(waiter.join().unwrap(), [index]);
            });
        };
        woken_by(&mut || queue.put(1).unwrap(), 1);
        queue.get().unwrap();
        woken_by(&mut || joinable.put(1).unwrap(), 2);
        joinable.get().unwrap();
        woken_by(&mut || simple.put(1).unwrap(), 3);
        simple.get().unwrap();
        woken_by(&mut || far.send(1).unwrap(), 4);
        near.recv().unwrap();
        woken_by(&mut || writer.write_all(b"x").unwrap(), 5);
        let mut gate = Some(gate);
        // All that are ready, not only the one that woke.
        assert_eq!(now(), [5]);
        gate.take();
        process.join().unwrap();
        assert_eq!(now(), [0, 5]);
        queue.close();
        joinable.put(2).unwrap();
        simple.close();
        drop(far);
        assert_eq!(now(), [0, 1, 2, 3, 4, 5]);
        assert!(wait(&[], Some(MOMENT)).unwrap().is_empty());
        assert_eq!(wait(&[&queue, &queue, &process, &process], None).unwrap(), [0, 1, 2, 3]);
    });
}

#[test]
fn ends_that_close_meanwhile_are_ready() {
    alone(|| {
        let (near, far) = pipe::<u32, u32>().unwrap();
        let (other, theirs) = pipe::<u32, u32>().unwrap();
        let queue = Queue::<u32>::unbounded().unwrap();
        let process = Process::new(send_and_stay, (theirs, 0)).start().unwrap();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| wait(&[&near, &other], None).unwrap());
            thread::sleep(MOMENT);
            process.kill().unwrap();
            assert_eq!(waiter.join().unwrap(), [1]);
            let waiter = scope.spawn(|| wait(&[&near, &queue], None).unwrap());
            thread::sleep(MOMENT);
            drop(far);
            assert_eq!(waiter.join().unwrap(), [0]);
            let waiter = scope.spawn(|| wait(&[&queue], None).unwrap());
            thread::sleep(MOMENT);
            queue.close();
            assert_eq!(waiter.join().unwrap(), [0]);
        });
    });
}

#[test]
fn a_signal_does_not_end_a_wait() {
    static CAUGHT: AtomicBool = AtomicBool::new(false);
    extern "C" fn catch(_: i32) {
        CAUGHT.store(true, Ordering::SeqCst);
    }
    alone(|| {
        let action = SigAction::new(SigHandler::Handler(catch), SaFlags::empty(), SigSet::empty());
        #[expect(unsafe_code, reason = "a handler is installed")]
        // SAFETY: the handler does nothing but store to an atomic.
        let before = unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
        let (queue, (near, _far), (reader, _writer)) = (
            Queue::<u32>::unbounded().unwrap(),
            pipe::<u32, u32>().unwrap(),
            std::io::pipe().unwrap(),
        );
        let sets: [&(dyn Fn() -> Vec<usize> + Sync); 4] = [
            &|| wait(&[&queue, &near], Some(10 * MOMENT)).unwrap(),
            &|| wait(&[&reader], Some(10 * MOMENT)).unwrap(),
            &|| wait(&[&queue, &reader], Some(10 * MOMENT)).unwrap(),
            &|| {
                assert!(matches!(near.recv_timeout(10 * MOMENT), Err(RecvError::TimedOut)));
                Vec::new()
            },
        ];
        for set in sets {
            CAUGHT.store(false, Ordering::SeqCst);
            let start = Instant::now();
            thread::scope(|scope| {
                let (send, thread_id) = std::sync::mpsc::channel();
                let waiter = scope.spawn(move || {
                    send.send(pthread_self()).unwrap();
                    set()
                });
                let id = thread_id.recv().unwrap();
                while !waiter.is_finished() {
                    // To that thread alone, which is there until it is joined.
                    pthread_kill(id, Signal::SIGUSR1).unwrap();
                    thread::sleep(Duration::from_millis(3));
                }
                assert!(waiter.join().unwrap().is_empty());
            });
            assert!(CAUGHT.load(Ordering::SeqCst) && start.elapsed() >= 10 * MOMENT);
        }
        #[expect(unsafe_code, reason = "the handler from before is installed again")]
        // SAFETY: it was the process's.
        let _ = unsafe { sigaction(Signal::SIGUSR1, &before) }.unwrap();
    });
}

#[test]
fn more_objects_than_one_system_call_takes_can_be_waited_for() {
    alone(|| {
        let queues: Vec<Queue<usize>> = (0..300).map(|_| Queue::unbounded().unwrap()).collect();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut all: Vec<&dyn Waitable> = queues.iter().map(|queue| queue as _).collect();
        assert!(wait(&all, Some(MOMENT)).unwrap().is_empty());
        for at in [0, 127, 128, 299] {
            thread::scope(|scope| {
                let waiter = scope.spawn(|| {
                    let all: Vec<&dyn Waitable> = queues.iter().map(|queue| queue as _).collect();
                    wait(&all, None).unwrap()
                });
                thread::sleep(MOMENT);
                queues[at].put(at).unwrap();
                assert_eq!(waiter.join().unwrap(), [at]);
                queues[at].get().unwrap();
            });
        }
        all.push(&reader);
        assert!(wait(&all, Some(MOMENT)).unwrap().is_empty());
        writer.write_all(b"x").unwrap();
        assert_eq!(wait(&all, None).unwrap(), [300]);
        queues[5].put(5).unwrap();
        assert_eq!(wait(&all, None).unwrap(), [5, 300]);
        let readers: Vec<_> = (0..300).map(|_| std::io::pipe().unwrap()).collect();
        let all: Vec<&dyn Waitable> = readers.iter().map(|(reader, _)| reader as _).collect();
        assert!(wait(&all, Some(MOMENT)).unwrap().is_empty());
        (&readers[299].1).write_all(b"x").unwrap();
        assert_eq!(wait(&all, None).unwrap(), [299]);
    });
}

#[test]
fn a_stopped_peer_is_no_dead_one() {
    alone(|| {
        let (ours, theirs) = pipe::<Vec<u8>, Vec<u8>>().unwrap();
        let process = Process::new(echo, (theirs,)).start().unwrap();
        ours.send(vec![1]).unwrap();
        assert_eq!(ours.recv().unwrap(), [1]);
        let pid = Pid::from_raw(process.pid() as i32);
        kill(pid, Signal::SIGSTOP).unwrap();
        ours.send(vec![2]).unwrap();
        assert!(matches!(ours.recv_timeout(10 * MOMENT), Err(RecvError::TimedOut)));
        kill(pid, Signal::SIGCONT).unwrap();
        assert_eq!(ours.recv().unwrap(), [2]);
        drop(ours);
        process.join().unwrap();
    });
}
