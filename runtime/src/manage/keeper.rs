//! Snapshots of a server's named objects: what is in one, and when it is written.
//!
//! - Each object is looked at while no method has it alone; several are looked at one after the other.
//! - An object that was in the file and that nobody has asked for since has no class here: it is a [`Record`]
//!   under its names, goes into the next file as it is, and becomes an object when its
//!   [maker](super::maker) is known.
//! - The *last* snapshot is that of the server's end. Whatever a method does once it has begun isn't in it
//!   maybe, so nobody is answered any more: who got an answer finds what it has done in the file.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::class::{self, Failure, Invocation, Made, Managed};
use super::maker::{Maker, Name};
use super::protocol::Fault;
use super::snapshot::{Record, Snapshot};
use super::table::{Found, Table};
use crate::callable::task_fn::Payload;
use crate::transport::codec::{self, passing};

/// For how long a method may have an object alone while it is wanted for a snapshot. It is much for a method,
/// and little for whoever waits for the end of a server.
const PATIENCE: Duration = Duration::from_secs(5);

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
    is_ending: AtomicBool,
}

impl Keeper {
    /// Takes what is in the snapshot at this path into the table.
    ///
    /// # Errors
    /// As [`Snapshot::open`].
    pub(crate) fn open(path: PathBuf, table: &Table) -> io::Result<Self> {
        let (snapshot, records) = Snapshot::open(path)?;
        records.into_iter().for_each(|record| table.keep(Arc::new(record)));
        Ok(Self { snapshot: Mutex::new(Some(snapshot)), is_ending: AtomicBool::new(false) })
    }

    /// Whether nobody may be answered any more.
    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending.load(Acquire)
    }

    /// Writes a snapshot.
    ///
    /// # Errors
    /// An object can't be in it, or it can't be written, with the text to say; the old one is there still.
    pub(crate) fn save(&self, table: &Table) -> Result<(), String> {
        let snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(snapshot) = &*snapshot else { return Err("the manager ends".to_owned()) };
        let records = records(table)?;
        snapshot.write(&records).map_err(|error| error.to_string())
    }

    /// Writes the last one, once.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub(crate) fn end(&self, table: &Table) -> Result<(), String> {
        self.is_ending.store(true, Release);
        let mut snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(snapshot) = snapshot.take() else { return Ok(()) };
        let records = records(table)?;
        snapshot.write(&records).map_err(|error| error.to_string())
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

/// All that has a name. An object with several of them is there once.
fn records(table: &Table) -> Result<Vec<Record>, String> {
    let until = Instant::now() + PATIENCE;
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
        places.insert(identity, records.len());
        let mut value = Vec::new();
        let (class, is_poisoned) = match &found {
            Found::Member(member) => {
                let poisoned = member.object().keep(until, &mut value).map_err(|why| {
                    format!("`{name}`, a {}, can't go into the snapshot: {why}", member.proxy())
                })?;
                (member.class(), poisoned)
            }
            Found::Kept(record) => {
                value.clone_from(&record.value);
                (record.class.clone(), record.is_poisoned)
            }
        };
        records.push(Record { names: vec![name], class, is_poisoned, value });
    }
    Ok(records)
}
