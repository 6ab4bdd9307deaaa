//! Snapshots of a server's named objects: what is in one, and when it is written.
//!
//! - Each object is looked at while no method has it alone; several are looked at one after the other.
//! - An object that was in the file and that nobody has asked for since has no class here: it is a [`Record`]
//!   under its names, goes into the next file as it is, and becomes an object when its
//!   [maker](super::maker) is known.
//! - The *last* snapshot is that of the server's end: who got an answer finds in the file what it has done.
//!
//! ```text
//! SERVING --the server ends--> ENDING --all that has begun is answered, or some time--> SEALED --> written
//! ```
//!
//! Who is ENDING begins no request, and lets go whoever waits for something. Who is SEALED answers nobody: what a
//! method does that takes so long isn't in the file maybe.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::class::{self, Failure, Invocation, Made, Managed};
use super::maker::{Maker, Name};
use super::protocol::Fault;
use super::snapshot::{Record, Snapshot};
use super::table::{Found, Member, Table};
use crate::callable::task_fn::Payload;
use crate::transport::codec::{self, passing};

/// For how long a method may have an object alone while it is wanted for a snapshot, and for how long requests
/// that have begun may take at the end. It is much for a method, and little for whoever waits for the end of a
/// server.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two looks whether these are answered.
const LOOK: Duration = Duration::from_millis(1);

/// How a class's values go into a snapshot, and what makes them of that.
pub struct Kept<T> {
    encode: fn(&T, &mut Vec<u8>) -> Result<(), codec::Error>,
    maker: &'static Maker,
}

impl<T: Managed> Kept<T> {
    /// Values are kept as an `A`: `encode` appends one that `T::from` takes.
    pub(crate) const fn of<A>(encode: fn(&T, &mut Vec<u8>) -> Result<(), codec::Error>) -> Self
    where
        T: From<A>,
        A: DeserializeOwned,
    {
        Self { encode, maker: Maker::of::<T, A>() }
    }

    /// Values are kept as they are. For what `#[managed(persist)]` makes.
    pub const fn whole() -> Self
    where
        T: Payload,
    {
        Self::of::<T>(append)
    }

    pub(crate) const fn maker(&self) -> &'static Maker {
        self.maker
    }

    /// Appends a value.
    ///
    /// # Errors
    /// It can't be encoded, or its own code panics.
    pub(crate) fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<(), Failure> {
        class::catch(|| passing::outside(|| (self.encode)(value, out)).map_err(Failure::Result))
    }
}

/// What makes a `T` of what a snapshot has, if that can be.
pub(crate) fn maker_of<T: Managed>() -> Option<Name> {
    T::KEPT.map(|kept| kept.maker().name())
}

/// Appends what a maker takes.
///
/// # Errors
/// It can't be encoded: it has handles in it, say.
pub(crate) fn append<A: Serialize>(value: &A, out: &mut Vec<u8>) -> Result<(), codec::Error> {
    codec::encode(&(value,), out)
}

/// See the file's head.
pub(crate) struct Keeper {
    /// None: the last one is written.
    snapshot: Mutex<Option<Snapshot>>,
    /// ENDING, or SEALED.
    is_ending: AtomicBool,
    is_sealed: AtomicBool,
    /// Requests that have begun and aren't answered.
    begun: AtomicUsize,
}

/// A request that has begun, until it is answered.
pub(crate) struct Begun<'a>(Option<&'a Keeper>);

impl<'a> Begun<'a> {
    /// None: nobody is served any more. Without a keeper everybody is.
    pub(crate) fn new(keeper: Option<&'a Keeper>) -> Option<Self> {
        if let Some(keeper) = keeper {
            keeper.begun.fetch_add(1, SeqCst);
        }
        let begun = Self(keeper);
        // The other way round whoever ends could look in between.
        (!keeper.is_some_and(Keeper::is_ending)).then_some(begun)
    }

    /// Whether it may be answered.
    pub(crate) fn is_answered(&self) -> bool {
        !self.0.is_some_and(|keeper| keeper.is_sealed.load(SeqCst))
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if let Some(keeper) = self.0 {
            keeper.begun.fetch_sub(1, SeqCst);
        }
    }
}

impl Keeper {
    /// Takes what is in the snapshot at this path into the table.
    ///
    /// # Errors
    /// As [`Snapshot::open`].
    pub(crate) fn open(path: PathBuf, table: &Table) -> io::Result<Self> {
        let (snapshot, records) = Snapshot::open(path)?;
        records.into_iter().for_each(|record| table.keep(Arc::new(record)));
        Ok(Self {
            snapshot: Mutex::new(Some(snapshot)),
            is_ending: AtomicBool::new(false),
            is_sealed: AtomicBool::new(false),
            begun: AtomicUsize::new(0),
        })
    }

    /// Whether no request begins any more, and nobody waits for anything.
    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending.load(SeqCst)
    }

    fn snapshot(&self) -> MutexGuard<'_, Option<Snapshot>> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is nothing to be kept: the server can't serve.
    pub(crate) fn give_up(&self) {
        self.snapshot().take();
    }

    /// Writes a snapshot.
    ///
    /// # Errors
    /// An object can't be in it, or it can't be written, with the text to say; the old one is there still.
    pub(crate) fn save(&self, table: &Table) -> Result<(), String> {
        let snapshot = self.snapshot();
        let Some(snapshot) = snapshot.as_ref().filter(|_| !self.is_ending()) else {
            return Err("the manager ends".to_owned());
        };
        let records = records(table, None)?;
        snapshot.write(&records).map_err(|error| error.to_string())
    }

    /// The server ends: all that has begun is answered, and nothing begins.
    pub(crate) fn end(&self) {
        self.is_ending.store(true, SeqCst);
        let until = Instant::now() + PATIENCE;
        while self.begun.load(SeqCst) > 0 && Instant::now() < until {
            thread::sleep(LOOK);
        }
        self.is_sealed.store(true, SeqCst);
    }

    /// Writes the last one, once, after the [end](Self::end). An object that can't be in it is there as it was in
    /// the one before.
    ///
    /// # Errors
    /// As [`save`](Self::save), but that all other objects are in it.
    pub(crate) fn save_the_last(&self, table: &Table) -> Result<(), String> {
        let Some(snapshot) = self.snapshot().take() else { return Ok(()) };
        let (all, why) = match records(table, None) {
            Ok(all) => (all, Ok(())),
            Err(why) => {
                let before = snapshot.read().map_err(|error| error.to_string())?;
                (records(table, Some(&before))?, Err(why))
            }
        };
        snapshot.write(&all).map_err(|error| error.to_string())?;
        why
    }
}

/// Makes the object of a record again.
///
/// # Errors
/// The bytes aren't such a value's, or its code panics.
pub(super) fn made(maker: &Maker, record: &Record) -> Result<Made, Fault> {
    let made = maker.make(&mut Invocation::new(&record.value, &mut Vec::new()));
    let made = made.map_err(|failure| match failure {
        Failure::Args(error) => Fault::Data(format!(
            "what the snapshot has isn't what a {} is made of any more: {error}",
            record.class
        )),
        failure => failure.into(),
    })?;
    let made = made.expect("a maker that doesn't fail makes something");
    if record.is_poisoned {
        made.object.poison();
    }
    Ok(made)
}

/// All that has a name. An object with several of them is there once. Of one that can't be had, there is what was
/// there `before`, if that is given.
fn records(table: &Table, before: Option<&[Record]>) -> Result<Vec<Record>, String> {
    let mut records: Vec<Record> = Vec::new();
    let mut places = HashMap::new();
    for (name, found) in table.all_named() {
        let identity = match &found {
            Found::Member(member) => Arc::as_ptr(member).addr(),
            Found::Kept(record) => Arc::as_ptr(record).addr(),
        };
        if let Some(place) = places.get(&identity) {
            let record: &mut Record = &mut records[*place];
            record.names.push(name);
            continue;
        }
        let mut record = match &found {
            Found::Member(member) => match (record_of(member, &name), before) {
                (Ok(record), _) => record,
                (Err(why), None) => return Err(why),
                (Err(_), Some(before)) => {
                    match before.iter().find(|record| record.names.contains(&name)) {
                        Some(record) => record.clone(),
                        None => continue,
                    }
                }
            },
            Found::Kept(record) => Record::clone(record),
        };
        record.names = vec![name];
        places.insert(identity, records.len());
        records.push(record);
    }
    Ok(records)
}

fn record_of(member: &Member, name: &str) -> Result<Record, String> {
    let mut value = Vec::new();
    let kept = member.object().keep(Instant::now() + PATIENCE, &mut value);
    let is_poisoned = kept.map_err(|why| {
        format!("`{name}`, a {}, can't go into the snapshot: {why}", member.proxy())
    })?;
    Ok(Record { names: Vec::new(), class: member.class(), is_poisoned, value })
}
