//! The generated code stands in a crate with strict lints, and does what the block says.
#![forbid(unsafe_code)]
#![deny(
    warnings,
    missing_docs,
    unused_qualifications,
    private_interfaces,
    clippy::all,
    clippy::pedantic
)]

use std::collections::BTreeMap;

use procession::{Manager, managed};

// None of these may stand in for what the generated code means.
#[allow(dead_code)]
mod core {}
#[allow(dead_code)]
struct Proxy;
#[allow(dead_code)]
struct Call;

/// Private, with a public handle.
struct Counter {
    value: u64,
}

#[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
struct Job {
    path: String,
}

#[managed]
impl Counter {
    const STEP: u64 = 2;

    /// A constructor whose argument has the name that the handle's own would have.
    pub fn new(manager: u64) -> Self {
        Self { value: manager }
    }

    /// One that may fail.
    pub fn parse(text: String) -> Result<Self, String> {
        text.parse().map(Self::new).map_err(|error| format!("{text}: {error}"))
    }

    /// One that names the type.
    pub fn zero() -> Counter {
        Counter::new(0)
    }

    /// No part of the handle: it takes no value and makes none.
    #[must_use]
    pub const fn step<'a>(_text: &'a str) -> u64 {
        Self::STEP
    }

    /// Changes it.
    pub fn add(&mut self, n: u64) -> u64 {
        self.value += n;
        self.value
    }

    /// Looks at it.
    #[must_use]
    pub const fn get(&self) -> u64 {
        self.value
    }

    pub fn undocumented(&self, _: u8, mut n: u64) -> u64 {
        n += self.secret();
        n
    }

    /// Old.
    #[deprecated]
    pub fn old(&self, this: u64, invocation: u64, slot: u64) -> u64 {
        self.value + this + invocation + slot
    }

    /// Raw identifiers.
    pub fn r#type(&self, r#in: u64) -> u64 {
        r#in
    }

    /// `Self` in types is the value's.
    pub fn steps(&self, counts: [u8; Self::STEP as usize]) -> BTreeMap<String, [u8; Self::STEP as usize]> {
        BTreeMap::from([(self.value.to_string(), counts)])
    }

    /// A private type of the program's own.
    pub(crate) fn path(&self, job: Job) -> Result<Job, (u8,)> {
        if self.value == 0 { Err((1,)) } else { Ok(job) }
    }

    fn secret(&self) -> u64 {
        self.value
    }

    /// Absent.
    #[cfg(any())]
    pub fn absent(&self, x: Missing) {}

    /// The numbers of those behind it don't change.
    #[cfg_attr(all(), cfg(all()), doc = "More.")]
    pub fn present(&self) -> bool {
        self.value > 0
    }

    /// Either.
    #[cfg(any())]
    pub fn either(&self) -> u8 {
        1
    }

    /// Either.
    #[cfg(not(any()))]
    pub fn either(&self) -> u8 {
        2
    }
}

mod inner {
    /// A stack.
    pub(crate) struct Stack<T>(pub(crate) Vec<T>);

    /// For numbers.
    #[procession::managed(name = "stack of numbers", proxy = Numbers)]
    impl Stack<u64> {
        /// Makes one.
        pub(crate) fn empty() -> Self {
            Stack(Vec::new())
        }

        /// Pushes.
        pub(crate) fn push(&mut self, value: u64) {
            self.0.push(value);
        }
    }

    /// For texts.
    #[procession::managed(proxy = Texts, crate = ::procession)]
    #[cfg(all())]
    impl Stack<String> {
        /// Makes one.
        pub(crate) fn new() -> Stack<String> {
            Stack(Vec::new())
        }

        /// Pushes.
        pub(crate) fn push(&mut self, value: String) -> usize {
            self.0.push(value);
            self.0.len()
        }
    }
}

#[procession::main]
fn main() -> Result<(), procession::Error> {
    enum Switch {
        On,
        Off,
    }

    #[managed]
    impl Switch {
        pub fn off() -> Self {
            Switch::Off
        }

        pub fn toggle(&mut self) -> bool {
            *self = if let Switch::Off = self { Switch::On } else { Switch::Off };
            matches!(self, Switch::On)
        }
    }

    let manager = Manager::new()?;
    let counter = CounterProxy::new(&manager, 5)?;
    assert_eq!(counter.add(3)?, 8);
    assert_eq!(counter.get()?, 8);
    assert_eq!(counter.undocumented(0, 1)?, 9);
    #[allow(deprecated)]
    let old = counter.old(1, 2, 3)?;
    assert_eq!(old, 14);
    assert_eq!(counter.r#type(7)?, 7);
    assert_eq!(counter.steps([1, 2])?, BTreeMap::from([("8".to_owned(), [1, 2])]));
    let job = || Job { path: "a".to_owned() };
    assert_eq!(counter.path(job())?, Ok(job()));
    assert_eq!(CounterProxy::zero(&manager)?.path(job())?, Err((1,)));
    assert!(counter.present()?);
    assert_eq!(counter.either()?, 2);
    assert_eq!(Counter::step(""), 2);

    assert_eq!(CounterProxy::parse(&manager, "12".to_owned())?.unwrap().get()?, 12);
    assert!(CounterProxy::parse(&manager, "x".to_owned())?.unwrap_err().starts_with("x: "));

    let sum = manager.batch(|tx| {
        let batch: CounterBatch<'_> = counter.on(tx);
        batch.add(1);
        batch.add(1)
    })?;
    assert_eq!(sum.get()?, 10);

    inner::Numbers::empty(&manager)?.push(1)?;
    assert_eq!(inner::Texts::new(&manager)?.push("a".to_owned())?, 1);
    assert!(SwitchProxy::off(&manager)?.toggle()?);
    Ok(())
}
