//! Ordinary Rust values that many processes work on together.
//!
//! A [`Manager`] makes them: [`Dict`], [`List`], [`Set`], [`Queue`], [`JoinableQueue`], [`Value`],
//! [`Namespace`]; [`Lock`], [`RLock`], [`Semaphore`], [`BoundedSemaphore`], [`Condition`], [`Event`],
//! [`Barrier`], [`RwLock`]; and types of your own, with [`#[managed]`](macro@crate::managed). Each has a view
//! for a [`Batch`], of the same methods.

mod barrier;
mod batch;
mod builtin;
mod condition;
mod dict;
mod error;
mod event;
mod holder;
mod joinable;
mod list;
mod lock;
mod namespace;
mod own;
pub(crate) mod proxy;
mod queue;
mod remote;
mod rwlock;
mod semaphore;
mod set;
mod value;

use std::any::type_name;
use std::fmt;
use std::hash::Hash;
use std::path::PathBuf;
use std::sync::Arc;

pub use self::barrier::{Barrier, BarrierBatch};
pub use self::batch::{Batch, Later};
pub use self::condition::{Condition, ConditionBatch, ConditionGuard};
use self::dict::Map;
pub use self::dict::{Dict, DictBatch};
pub use self::error::ManagerError;
use self::event::Flag;
pub use self::event::{Event, EventBatch};
use self::joinable::Joinable;
pub use self::joinable::{JoinableQueue, JoinableQueueBatch};
use self::list::Items;
pub use self::list::{List, ListBatch};
pub use self::lock::{Lock, LockBatch, LockGuard, RLock, RLockBatch, RLockGuard};
use self::namespace::Entries;
pub use self::namespace::{Namespace, NamespaceBatch};
use self::own::Own;
pub use self::proxy::ManagedProxy;
use self::proxy::Proxy;
use self::queue::Line;
pub use self::queue::{Queue, QueueBatch};
pub use self::remote::ManagerBuilder;
pub use self::rwlock::{RwLock, RwLockBatch, RwLockReadGuard, RwLockWriteGuard};
pub use self::semaphore::{
    BoundedSemaphore, BoundedSemaphoreBatch, BoundedSemaphoreGuard, Semaphore, SemaphoreBatch,
    SemaphoreGuard,
};
use self::set::Members;
pub use self::set::{Set, SetBatch};
use self::value::Single;
pub use self::value::{Value, ValueBatch};
use super::address::Address;
use crate::callable::task_fn::Payload;
use crate::error::Error;
use crate::manage::afar::host::Listen;
use crate::manage::call::Call;
use crate::manage::class::Managed;
use crate::manage::handle::{self, Found, Way};
use crate::manage::maker::{self, Maker};
use crate::manage::protocol::Fault;
use crate::manage::registry;

/// A server process that owns ordinary Rust values, for many processes to work on, as Python's `Manager`.
///
/// What it makes are *proxies*: small handles, which can be sent to any process of the program, in calls of
/// tasks, through queues and pipes, and be inside other managed values. A call of a proxy's method is one
/// round trip to the server; one that blocks holds up nobody else.
///
/// ```
/// use procession::{Dict, Manager, Pool, task};
///
/// #[task]
/// fn count(word: String, counts: Dict<String, u64>) {
///     let before = counts.get(&word).unwrap().unwrap_or(0);
///     counts.insert(word, before + 1).unwrap();
/// }
///
/// #[procession::main]
/// fn main() -> Result<(), procession::Error> {
///     let manager = Manager::new()?;
///     let counts = manager.dict()?;
///     let words = ["to", "be", "or", "not"].map(|word| (word.to_owned(), counts.clone()));
///     Pool::new()?.starmap(count, words)?;
///     assert_eq!(counts.len()?, 4);
///     assert_eq!(counts.get("be")?, Some(1));
///     Ok(())
/// }
/// ```
///
/// # How long values live
/// A value is dropped when its last proxy is, in whatever process, or has died with its process; one with a
/// [name](Self::name) lives on until the name is [taken back](Self::unname). Values that have proxies of
/// each other in a circle keep each other alive, as in Python.
///
/// The server ends when the `Manager` is dropped, which waits for that, or when its process ends; then calls
/// are [`ManagerError::Lost`]. It doesn't react to Ctrl-C.
///
/// # Values that call each other
/// A method of a managed value can call another one through a proxy. It must not call its own value, which is
/// busy with it: with `&mut self` it would wait for itself for ever. Nor must two values call each other in a
/// circle.
///
/// # Several calls at once
/// [`batch`](Self::batch) sends any number of calls in one message.
///
/// # From other programs
/// [`builder`](Self::builder) makes a manager that listens at an address, and [`connect`](Self::connect) goes
/// there, from other programs and machines.
pub struct Manager {
    way: Way,
    /// None: it is another program's.
    own: Option<Arc<Own>>,
    address: Option<Address>,
}

impl Manager {
    /// Starts a server.
    ///
    /// # Errors
    /// The process can't be started, or ends at once; there is no memory; or the program has no guard: see
    /// [`main`](macro@crate::main).
    pub fn new() -> Result<Self, Error> {
        Self::start(None, None)
    }

    fn start(listen: Option<Listen>, snapshot: Option<PathBuf>) -> Result<Self, Error> {
        let own = Own::start(listen, snapshot)?;
        Ok(Self { way: Way::There(Arc::clone(own.client())), own: Some(own), address: None })
    }

    /// The server's process id, on its machine.
    pub fn pid(&self) -> u32 {
        match (&self.own, &self.way) {
            (Some(own), _) => own.process().pid(),
            (None, Way::Afar(client)) => client.about().map_or(0, |about| about.pid),
            (None, _) => unreachable!("other programs' managers are afar"),
        }
    }

    /// A new dictionary, empty.
    ///
    /// # Errors
    /// See [`ManagerError`].
    pub fn dict<K, V>(&self) -> Result<Dict<K, V>, ManagerError>
    where
        K: Payload + Eq + Hash + Send + Sync,
        V: Payload + Send + Sync,
    {
        self.make::<Map<K, V>, _>(())
    }

    /// A new value, shared by all.
    ///
    /// # Errors
    /// See [`ManagerError`].
    pub fn value<T>(&self, value: T) -> Result<Value<T>, ManagerError>
    where
        T: Payload + Send + Sync,
    {
        self.make::<Single<T>, _>(value)
    }

    /// A new list of these items.
    ///
    /// # Errors
    /// See [`ManagerError`].
    pub fn list<T>(&self, items: Vec<T>) -> Result<List<T>, ManagerError>
    where
        T: Payload + Send + Sync,
    {
        self.make::<Items<T>, _>(items)
    }

    /// A new set, empty.
    ///
    /// # Errors
    /// See [`ManagerError`].
    pub fn set<T>(&self) -> Result<Set<T>, ManagerError>
    where
        T: Payload + Eq + Hash + Send + Sync,
    {
        self.make::<Members<T>, _>(())
    }

    /// A new queue, for so many items at most, or any number.
    ///
    /// # Errors
    /// There would be room for no item: [`ManagerError::Refused`]. See [`ManagerError`].
    pub fn queue<T>(&self, capacity: Option<usize>) -> Result<Queue<T>, ManagerError>
    where
        T: Payload + Send + Sync,
    {
        queue::check_capacity(capacity)?;
        self.make::<Line<T>, _>(capacity)
    }

    /// A new queue that can be joined, for so many items at most, or any number.
    ///
    /// # Errors
    /// There would be room for no item: [`ManagerError::Refused`]. See [`ManagerError`].
    pub fn joinable_queue<T>(
        &self,
        capacity: Option<usize>,
    ) -> Result<JoinableQueue<T>, ManagerError>
    where
        T: Payload + Send + Sync,
    {
        queue::check_capacity(capacity)?;
        self.make::<Joinable<T>, _>(capacity)
    }

    /// A new namespace, empty.
    ///
    /// # Errors
    /// See [`ManagerError`].
    pub fn namespace(&self) -> Result<Namespace, ManagerError> {
        self.make::<Entries, _>(())
    }

    /// A new event, not set.
    ///
    /// # Errors
    /// See [`ManagerError`].
    pub fn event(&self) -> Result<Event, ManagerError> {
        self.make::<Flag, _>(())
    }

    /// A new lock, free.
    ///
    /// # Errors
    /// See [`ManagerError`].
    pub fn lock(&self) -> Result<Lock, ManagerError> {
        self.make::<lock::Once, _>(())
    }

    /// A new lock that its holder can acquire again, free.
    ///
    /// # Errors
    /// See [`ManagerError`].
    pub fn rlock(&self) -> Result<RLock, ManagerError> {
        self.make::<lock::Again, _>(())
    }

    /// A new semaphore with so many permits.
    ///
    /// # Errors
    /// See [`ManagerError`].
    pub fn semaphore(&self, permits: u32) -> Result<Semaphore, ManagerError> {
        self.make::<semaphore::Unbounded, _>(permits)
    }

    /// A new semaphore with so many permits, and never more.
    ///
    /// # Errors
    /// See [`ManagerError`].
    pub fn bounded_semaphore(&self, permits: u32) -> Result<BoundedSemaphore, ManagerError> {
        self.make::<semaphore::Bounded, _>(permits)
    }

    /// A new lock that many can hold to read, or one to write.
    ///
    /// # Errors
    /// See [`ManagerError`].
    pub fn rwlock(&self) -> Result<RwLock, ManagerError> {
        self.make::<rwlock::Book, _>(())
    }

    /// A new condition, with a lock of its own.
    ///
    /// # Errors
    /// See [`ManagerError`].
    pub fn condition(&self) -> Result<Condition, ManagerError> {
        self.make::<condition::Monitor, _>(())
    }

    /// A new barrier for so many, at least one.
    ///
    /// # Errors
    /// It would be for nobody: [`ManagerError::Refused`]. See [`ManagerError`].
    pub fn barrier(&self, parties: usize) -> Result<Barrier, ManagerError> {
        if parties == 0 {
            return Err(ManagerError::Refused("a barrier is for at least one party".to_owned()));
        }
        self.make::<barrier::Gate, _>(parties)
    }

    /// Has a built-in type's value made in the server.
    fn make<T, A>(&self, args: A) -> Result<T::Proxy, ManagerError>
    where
        T: Managed<Proxy: ManagedProxy> + From<A>,
        A: Payload,
    {
        let error = |fault| ManagerError::new(fault, type_name::<T::Proxy>());
        let maker = Maker::of::<T, A>().name();
        handle::make(&self.way, maker, &args).map(T::Proxy::from_handle).map_err(error)
    }

    /// Gives a value to the server, which owns it from now on.
    ///
    /// # Errors
    /// See [`ManagerError`].
    pub fn manage<T>(&self, value: T) -> Result<T::Proxy, ManagerError>
    where
        T: Managed<Proxy: ManagedProxy> + Payload,
    {
        self.make::<T, T>(value)
    }

    /// Has a value made by a constructor. For what `#[managed]` makes.
    ///
    /// # Errors
    /// See [`ManagerError`].
    #[doc(hidden)]
    pub fn create<T: Managed, A>(
        &self,
        constructor: Call<T, A, ()>,
        args: &A,
    ) -> Result<Proxy<T>, ManagerError> {
        let ((), made) = self.construct(constructor, args)?;
        made.ok_or_else(|| made_nothing(constructor))
    }

    /// Has a value made by a constructor that may fail itself. For what `#[managed]` makes.
    ///
    /// # Errors
    /// See [`ManagerError`].
    #[doc(hidden)]
    pub fn try_create<T: Managed, A, E>(
        &self,
        constructor: Call<T, A, Result<(), E>>,
        args: &A,
    ) -> Result<Result<Proxy<T>, E>, ManagerError> {
        match self.construct(constructor, args)? {
            (Ok(()), made) => made.map(Ok).ok_or_else(|| made_nothing(constructor)),
            (Err(error), _) => Ok(Err(error)),
        }
    }

    fn construct<T: Managed, A, R>(
        &self,
        constructor: Call<T, A, R>,
        args: &A,
    ) -> Result<(R, Option<Proxy<T>>), ManagerError> {
        let error = |fault| ManagerError::new(fault, described(constructor));
        let class = registry::index_of::<T>().ok_or_else(|| {
            error(Fault::Refused("the type isn't in the table of managed types".to_owned()))
        })?;
        let (own, handle) =
            handle::construct(&self.way, class, constructor, args).map_err(error)?;
        Ok((own, handle.map(Proxy::new)))
    }

    /// Sends many calls in one message: each proxy's `on` gives the same methods, whose results are there
    /// when the closure has returned and all have been executed, one after the other.
    ///
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// let manager = procession::Manager::new()?;
    /// let squares = manager.dict::<u64, u64>()?;
    /// let seven = manager.batch(|tx| {
    ///     for i in 0..1000 {
    ///         squares.on(tx).insert(i, i * i);
    ///     }
    ///     squares.on(tx).get(&7)
    /// })?;
    /// assert_eq!(seven.get()?, Some(49));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The server has gone, or a call has failed whose result was dropped within the closure. A call whose
    /// result was kept tells its error in [`Later::get`]. One that fails doesn't keep the next ones from being
    /// executed.
    pub fn batch<R>(&self, calls: impl FnOnce(&Batch) -> R) -> Result<R, ManagerError> {
        Batch::run(calls)
    }

    /// Gives an object a public name, under which every process can [find](Self::named) it, and which keeps it
    /// alive.
    ///
    /// # Errors
    /// See [`ManagerError`]. The name is in use, or the object can't be in the manager's
    /// [snapshot](ManagerBuilder::persist): [`ManagerError::Refused`].
    pub fn name<P: ManagedProxy>(
        &self,
        name: impl Into<String>,
        object: &P,
    ) -> Result<(), ManagerError> {
        let name = name.into();
        match handle::name(&self.way, object.as_handle(), &name).map_err(of_manager)? {
            true => Ok(()),
            false => Err(ManagerError::Refused(format!("the name `{name}` is in use"))),
        }
    }

    /// Takes a public name back. False: nothing had it.
    ///
    /// # Errors
    /// See [`ManagerError`].
    pub fn unname(&self, name: impl Into<String>) -> Result<bool, ManagerError> {
        handle::unname(&self.way, &name.into()).map_err(of_manager)
    }

    /// The object with a public name.
    ///
    /// # Errors
    /// [`ManagerError::Gone`] if nothing has the name, [`ManagerError::TypeMismatch`] if it is of another type,
    /// [`ManagerError::Data`] if what a [snapshot](ManagerBuilder::persist) has can't be decoded as this type.
    pub fn named<P: ManagedProxy>(&self, name: &str) -> Result<P, ManagerError> {
        // To a server of another build it says nothing.
        let maker = P::maker().unwrap_or(maker::Name::NONE);
        let found = handle::find(&self.way, maker, name).map_err(of_manager)?;
        let mismatch = |expected: &str, found: &str| ManagerError::TypeMismatch {
            name: name.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        };
        let (handle, found, described) = match found {
            Some(Found::Object(handle, found, described)) => (handle, found, described),
            Some(Found::Kept(class)) if P::described().first() == Some(&class) => {
                return Err(ManagerError::Refused(format!(
                    "`{name}` is in the manager's snapshot still: the manager's own program has to ask for it \
                     once, as a type that can be in snapshots"
                )));
            }
            Some(Found::Kept(class)) => return Err(mismatch(type_name::<P>(), &class)),
            None => return Err(ManagerError::Gone(format!("the name `{name}`"))),
        };
        if self.own.is_some() {
            if !P::fits(&handle) {
                return Err(mismatch(type_name::<P>(), &found));
            }
        } else {
            remote::compare(&P::described(), &described)
                .map_err(|[ours, its]| mismatch(&ours, &its))?;
        }
        Ok(P::from_handle(handle))
    }

    /// Writes the [snapshot](ManagerBuilder::persist) now.
    ///
    /// Each object is in it as it is between two of its methods, but one may be looked at later than another.
    ///
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// # let path = std::env::temp_dir().join(format!("total-{}", std::process::id()));
    /// let manager = procession::Manager::builder().persist(&path).build()?;
    /// let total = manager.value(0_u64)?;
    /// manager.name("total", &total)?;
    /// total.set(5)?;
    /// manager.save()?;
    /// // From here on the total survives whatever happens.
    /// # manager.shutdown()?;
    /// # std::fs::remove_file(&path).unwrap();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ManagerError::Refused`], with the reason: the manager keeps none; an object can't be encoded, or a
    /// method has had it alone for five seconds; or the file can't be written. The old one is there still, unless
    /// it was the folder alone that couldn't be brought to the disk.
    pub fn save(&self) -> Result<(), ManagerError> {
        handle::save(&self.way).map_err(of_manager)
    }

    /// Ends the server, and waits for its end. All its values are dropped with it. One that was
    /// [connected](Self::connect) to lives on.
    ///
    /// # Errors
    /// It has ended in another way before; or it could not write its last [snapshot](ManagerBuilder::persist),
    /// with the reason, as [`save`](Self::save) gives it. If one object couldn't be in it, that is there as it was in
    /// the one before, and all others as they are.
    pub fn shutdown(mut self) -> Result<(), Error> {
        let Some(own) = self.own.take() else { return Ok(()) };
        own.shut_down()
    }
}

fn of_manager(fault: Fault) -> ManagerError {
    ManagerError::new(fault, "the manager")
}

/// A server has said that a constructor was done, and has no object of it.
#[cold]
fn made_nothing<T: Managed, A, R>(constructor: Call<T, A, R>) -> ManagerError {
    let fault = Fault::Data("the reply has no object in it".to_owned());
    ManagerError::new(fault, described(constructor))
}

/// Which constructor of which type, for errors.
fn described<T: Managed, A, R>(constructor: Call<T, A, R>) -> String {
    format!("{}::{}", T::CLASS.name(), constructor.name())
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            own.let_go();
        }
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let process = self.own.as_ref().map(|own| own.process());
        f.debug_struct("Manager")
            .field("process", &process)
            .field("address", &self.address)
            .finish()
    }
}
