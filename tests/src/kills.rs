//! Processes that are killed at random instants, over and over.

use std::env;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use procession::Process;
use serde::de::DeserializeOwned;

/// For how long a test kills if nobody says how often.
const BUDGET: Duration = Duration::from_secs(7);

/// How many processes are there to be killed.
const VICTIMS: usize = 3;

/// A small linear congruential generator.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Begins with `PROCESSION_SEED`, or anew, and prints with what.
    #[expect(clippy::new_without_default, reason = "it prints")]
    pub fn new() -> Self {
        let seed = env::var("PROCESSION_SEED").ok().and_then(|seed| seed.parse().ok());
        let now = || SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().subsec_nanos().into();
        let seed = seed.unwrap_or_else(now);
        println!("PROCESSION_SEED={seed}");
        Self(seed)
    }

    /// Begins with this seed.
    pub fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below this.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// Sleeps less than `most`.
    pub fn sleep(&mut self, most: Duration) {
        thread::sleep(Duration::from_nanos(self.below(most.as_nanos() as u64)));
    }
}

/// Says when it is enough: after `PROCESSION_KILLS` kills, or without it, when some seconds are over.
#[derive(Debug)]
pub struct Count {
    kills: u32,
    most: Option<u32>,
    end: Instant,
}

impl Count {
    /// None so far.
    #[expect(clippy::new_without_default, reason = "a clock starts to run")]
    pub fn new() -> Self {
        let most = env::var("PROCESSION_KILLS").ok().and_then(|kills| kills.parse().ok());
        Self { kills: 0, most, end: Instant::now() + BUDGET }
    }

    /// Whether there is to be one more, which is counted.
    pub fn one_more(&mut self) -> bool {
        let more = self.most.map_or_else(|| Instant::now() < self.end, |most| self.kills < most);
        self.kills += u32::from(more);
        more
    }

    /// How many there were.
    pub fn kills(&self) -> u32 {
        self.kills
    }
}

/// Starts some processes, which work for ever, kills and replaces one after the other, and kills all of
/// them in the end; says how many.
///
/// # Panics
/// One ends before it is killed.
pub fn kill_and_replace<R: DeserializeOwned>(start: impl Fn() -> Process<R>) -> u32 {
    let (mut random, mut count) = (Random::new(), Count::new());
    let mut victims: Vec<_> = (0..VICTIMS).map(|_| start()).collect();
    while count.one_more() {
        random.sleep(Duration::from_millis(2));
        let victim = &mut victims[random.below(VICTIMS as u64) as usize];
        // It may not have got as far as its work yet: it is given a little more time.
        random.sleep(Duration::from_millis(4));
        victim.kill().expect("there is such a signal");
        assert!(victim.join().is_err());
        *victim = start();
    }
    for victim in &victims {
        victim.kill().expect("there is such a signal");
        assert!(victim.join().is_err());
    }
    count.kills + VICTIMS as u32
}
