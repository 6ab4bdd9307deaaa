//! Models of a hand: what parent and worker see of it in any order, and after any death.

use std::cell::Cell;
use std::sync::Arc;

use super::*;
use crate::shm::board::Board;
use crate::shm::model::{Model, Word32, Word64, be, explore, explore_deaths_with, mortal, process};

fn board() -> Board<Model> {
    Board::new(Word64::default())
}

fn hand() -> Hand<Model> {
    let (begun, filled, since) = (Word64::default(), Word64::default(), Word64::default());
    let (timed, work, start) = (Word64::default(), Word64::default(), Word32::default());
    let (cuts, condemned) = (Word32::default(), Word32::default());
    let line = Line { limit: Word64::default(), cuts, condemned };
    let (phase, first) = (Word32::default(), Word32::default());
    Hand { begun, filled, since, timed, work, start, phase, first, line }
}

/// A worker's whole way through a board; gives out what it has run.
fn work(board: &Board<Model>, hand: &Hand<Model>, generation: u32, items: u32) -> Vec<u32> {
    let mut run = Vec::new();
    for serial in 1.. {
        hand.claiming(7);
        let Some(range) = board.claim(generation, items, |_| 2) else { break };
        let mut holding = hand.hold(serial, &range);
        let mut number = 1;
        while number <= holding.count() && hand.begin(&mut holding, number) {
            run.push(range.start + number - 1);
            number += 1;
        }
        hand.rest();
    }
    hand.rest();
    run
}

fn all(mut items: Vec<u32>) -> Vec<u32> {
    items.sort_unstable();
    items
}

#[test]
fn every_item_is_claimed_once() {
    explore(|| {
        let board = Arc::new(board());
        board.open(3);
        let workers = [2, 3].map(|number| {
            let board = Arc::clone(&board);
            process(number, move || work(&board, &hand(), 3, 3))
        });
        let [one, two] = workers.map(|worker| worker.join().unwrap());
        assert_eq!(all([one, two].concat()), [0, 1, 2]);
    });
}

#[test]
fn who_comes_late_claims_nothing_of_what_comes_next() {
    explore(|| {
        let board = Arc::new(board());
        board.open(3);
        let late = {
            let board = Arc::clone(&board);
            process(2, move || work(&board, &hand(), 3, 2))
        };
        be(1, || {
            let unclaimed = board.close(3) as u32;
            board.open(4);
            assert_eq!(work(&board, &hand(), 4, 2), [0, 1]);
            let claimed = late.join().unwrap();
            assert_eq!(all(claimed), (0..unclaimed).collect::<Vec<_>>());
        });
    });
}

/// What is cut from a range and what is run of it make the whole, whatever the interleaving.
fn cut_while_it_works(leave: u32) {
    explore(move || {
        let (board, hand) = (Arc::new(board()), Arc::new(hand()));
        board.open(0);
        let worker = {
            let (board, hand) = (Arc::clone(&board), Arc::clone(&hand));
            process(2, move || work(&board, &hand, 0, 3))
        };
        be(1, || {
            let cut: Vec<u32> = hand.cut(7, leave).into_iter().flatten().collect();
            let run = worker.join().unwrap();
            assert_eq!(all([cut, run].concat()), [0, 1, 2]);
        });
    });
}

#[test]
fn every_item_is_run_or_taken_back() {
    cut_while_it_works(0);
    cut_while_it_works(1);
}

#[test]
fn other_work_is_not_cut() {
    explore(|| {
        let hand = hand();
        be(1, || {
            assert_eq!(hand.cut(7, 0), None);
            hand.claiming(7);
            assert_eq!((hand.cut(7, 0), hand.last()), (None, Last::Unknown(7)));
            let mut holding = hand.hold(1, &(10..14));
            assert!(hand.begin(&mut holding, 1));
            assert_eq!((hand.cut(8, 0), hand.unbegun()), (None, 3));
            assert_eq!(hand.cut(7, 1), Some(12..14));
            let running = |since| Some(Running { work: 7, item: 10, since, mark: pack(1, 1) });
            assert_eq!(hand.running(), running(None));
            hand.set_start(&holding, 1, 99);
            assert_eq!(hand.running(), running(Some(99)));
            assert!(hand.begin(&mut holding, 2));
            assert_eq!(holding.count(), 2);
            assert!(!hand.begin(&mut holding, 3));
            let last = Last::Range { work: 7, begun: 10..12, unbegun: 12..12 };
            assert_eq!(hand.last(), last);
            hand.rest();
            assert_eq!((hand.last(), hand.running()), (Last::Nothing, None));
        });
    });
}

/// Who is condemned is at the item that it is condemned for, and begins nothing else; who isn't goes on.
#[test]
fn the_condemned_begin_nothing_more() {
    explore(|| {
        let (board, hand) = (Arc::new(board()), Arc::new(hand()));
        board.open(0);
        let begun = Arc::new(Word32::default());
        let worker = {
            let (board, hand, begun) = (Arc::clone(&board), Arc::clone(&hand), Arc::clone(&begun));
            process(2, move || {
                for serial in 1.. {
                    hand.claiming(7);
                    let Some(range) = board.claim(0, 2, |_| 1) else { break };
                    let mut holding = hand.hold(serial, &range);
                    if hand.begin(&mut holding, 1) {
                        begun.store(range.start + 1, Release);
                    }
                }
                hand.rest();
            })
        };
        be(1, || {
            let Some(running) = hand.running() else { return };
            if hand.condemn(running) {
                // It waits where it is, until it is killed; here it is let go again.
                let seen = begun.load(Acquire);
                assert!(seen <= running.item + 1, "{seen} of {running:?}");
                hand.line.limit.store(pack(serial_of(running.mark), 1), Release);
                hand.line.condemned.store(0, Release);
                hand.decided();
            }
        });
        worker.join().unwrap();
        assert_eq!(begun.load(Acquire), 2);
    });
}

/// After a death at any step: what it has run it has begun, at most one item that it has begun wasn't
/// run, and all others are unbegun, unclaimed, or nobody knows of them.
#[test]
fn a_death_leaves_each_item_somewhere() {
    explore_deaths_with(1, |steps| {
        let (board, hand) = (Arc::new(board()), Arc::new(hand()));
        board.open(0);
        let run = Arc::new([const { std::sync::atomic::AtomicU32::new(0) }; 3]);
        let worker = {
            let (board, hand, run) = (Arc::clone(&board), Arc::clone(&hand), Arc::clone(&run));
            mortal(2, steps, move || {
                hand.claiming(7);
                let range = board.claim(0, 3, |_| 2).unwrap();
                let mut holding = hand.hold(1, &range);
                for number in 1..=2 {
                    if hand.begin(&mut holding, number) {
                        run[(range.start + number - 1) as usize].store(1, Relaxed);
                    }
                }
                hand.rest();
            })
        };
        be(1, || {
            let cut: Vec<u32> = hand.cut(7, 0).into_iter().flatten().collect();
            worker.join();
            let run: Vec<u32> = (0..3).filter(|i| run[*i as usize].load(Relaxed) == 1).collect();
            let unclaimed = board.unclaimed(0).unwrap() as u32;
            assert!(unclaimed == 0 || unclaimed == 2);
            match hand.last() {
                Last::Nothing => assert!(run.len() + cut.len() == 2 || unclaimed == 0),
                Last::Unknown(_) => assert!(run.is_empty() && cut.is_empty()),
                Last::Range { work: 7, begun, unbegun } => {
                    assert!(run.iter().all(|item| begun.contains(item)));
                    assert!(begun.len() <= run.len() + 1);
                    assert_eq!(all([begun.collect(), unbegun.collect(), cut].concat()), [0, 1]);
                }
                other => panic!("{other:?}"),
            }
        });
    });
}

#[test]
fn a_forged_hand_is_bounded() {
    explore(|| {
        let hand = hand();
        be(1, || {
            for (start, begun, limit) in
                [(u32::MAX, 5, 9), (0, u32::MAX, 3), (5, 7, u32::MAX), (1, 2, 0)]
            {
                hand.start.store(start, Relaxed);
                hand.begun.store(pack(1, begun), Relaxed);
                hand.line.limit.store(pack(1, limit), Relaxed);
                hand.work.store(7, Relaxed);
                hand.phase.store(HOLDING, Relaxed);
                let _ = (hand.last(), hand.running(), hand.unbegun(), hand.cut(7, 3));
            }
            hand.phase.store(77, Relaxed);
            assert_eq!(hand.last(), Last::Unknown(7));
        });
    });
}

#[test]
fn results_in_another_room_are_not_these() {
    explore(|| {
        let hand = hand();
        let rooms = Cell::new(0);
        be(1, || {
            for position in [0, 1 << 20, (1 << 33) + 5] {
                let filled = Filled { run: 24, bytes: 100 };
                hand.fill(position, filled);
                rooms.set(rooms.get() + 1);
                assert_eq!(hand.filled(position), filled);
                assert_eq!(hand.filled(position + 100), Filled::default());
            }
        });
        assert_eq!(rooms.get(), 3);
    });
}

/// Whoever looks sees no result before it is written, and after a death all but the last one that was made.
#[test]
fn what_has_begun_counts_what_was_done_before() {
    explore_deaths_with(1, |steps| {
        let hand = Arc::new(hand());
        let growth = Growth { run: 24, head: 8, each: 1 };
        let full = |items: u16| Filled { run: 24, bytes: 32 + items };
        let done = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let worker = {
            let (hand, done) = (Arc::clone(&hand), Arc::clone(&done));
            mortal(2, steps, move || {
                let mut holding = hand.hold(1, &(10..12));
                hand.fill_by_begun(0, 1, growth);
                for number in 1..=2 {
                    assert!(hand.begin(&mut holding, number));
                    done.store(number, Relaxed);
                }
                hand.fill(0, full(2));
                hand.rest();
                hand.hold(2, &(20..22));
                hand.fill_by_begun(0, 1, Growth { run: 34, ..growth });
            })
        };
        be(1, || {
            let seen = |filled: Filled| match filled.run {
                24 => u32::from(filled.bytes - 32),
                34 => 2,
                _ => 0,
            };
            let early = seen(hand.filled(0));
            assert!(early <= done.load(Relaxed), "{early}");
            worker.join();
            let (late, done) = (seen(hand.filled(0)), done.load(Relaxed));
            assert!(late <= done && late + 1 >= done && late >= early, "{early} {late} {done}");
        });
    });
}
