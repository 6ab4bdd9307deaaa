//! The objects that the server owns: by number, by public name, and when one dies.
//!
//! An object has an entry in the family's heap ([`Kind::Managed`]), whose name is its number. Whoever has a
//! proxy holds the entry, in whatever process, and so do messages on their way; the heap takes back what the
//! dead have held. Within the server, values may have proxies of other objects in them; these *references*
//! are counted here. An object lives
//!
//! - while somebody else holds its entry,
//! - while there is a reference,
//! - while it has a public name,
//! - while one of its methods runs, or a handle on it is in an answer that isn't sent yet.
//!
//! Whenever one of the first three ends, the object is a *suspect*, which the server looks at between two
//! requests. (Objects that refer to each other in a circle live as long as the server.)

use std::collections::HashMap;
use std::io;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicUsize, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::class::{Made, Object};
use super::snapshot::Record;
use crate::shm::heap::{self, Id, Kind};

/// An object, with what it is known by.
pub(crate) struct Member {
    entry: heap::Object,
    made: Made,
    references: AtomicUsize,
    names: AtomicUsize,
}

impl Member {
    pub(crate) fn entry(&self) -> &heap::Object {
        &self.entry
    }

    pub(crate) fn object(&self) -> &dyn Object {
        &*self.made.object
    }

    /// The type of its proxies, for people.
    pub(crate) fn proxy(&self) -> &'static str {
        self.made.proxy
    }

    /// See [`described`](super::class::described).
    pub(crate) fn described(&self) -> Vec<String> {
        (self.made.described)()
    }

    /// See [`fingerprint`](super::class::fingerprint).
    pub(crate) fn fingerprint(&self) -> u64 {
        (self.made.fingerprint)()
    }

    /// See [`name_of`](super::class::name_of).
    pub(crate) fn class(&self) -> String {
        (self.made.class)()
    }

    /// Which type its proxies are of: see [`layout_of`](heap::layout_of).
    pub(crate) fn layout(&self) -> u64 {
        self.made.layout
    }

    /// There is one reference more.
    pub(crate) fn refer(&self) {
        self.references.fetch_add(1, Relaxed);
    }
}

/// What has a public name.
enum Named {
    Member(Id),
    /// What was in the snapshot, as long as nobody has asked for it.
    Kept(Arc<Record>),
}

/// What was found under a public name.
pub(crate) enum Found {
    Member(Arc<Member>),
    Kept(Arc<Record>),
}

/// See the file's head.
#[derive(Default)]
pub(crate) struct Table {
    members: Mutex<HashMap<Id, Arc<Member>>>,
    names: Mutex<HashMap<String, Named>>,
    suspects: Mutex<Vec<Id>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    /// Enters an object. It is a suspect already: nobody else holds it yet.
    ///
    /// # Errors
    /// There is no memory for an entry.
    pub(crate) fn insert(&self, made: Made) -> io::Result<Arc<Member>> {
        let request = heap::Request { layout: made.layout, ..heap::Request::small(Kind::Managed) };
        let entry = heap::Object::create(request)?;
        let id = entry.id();
        let (references, names) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let member = Arc::new(Member { entry, made, references, names });
        locked(&self.members).insert(id, Arc::clone(&member));
        self.suspect(id);
        Ok(member)
    }

    /// The object with this number.
    pub(crate) fn get(&self, id: Id) -> Option<Arc<Member>> {
        locked(&self.members).get(&id).cloned()
    }

    /// Gives an object a public name. False: another one has it.
    pub(crate) fn name(&self, name: String, member: &Member) -> bool {
        let mut names = locked(&self.names);
        if names.contains_key(&name) {
            return false;
        }
        member.names.fetch_add(1, Relaxed);
        names.insert(name, Named::Member(member.entry.id()));
        true
    }

    /// Takes a public name back. False: nothing has it.
    pub(crate) fn unname(&self, name: &str) -> bool {
        let Some(named) = locked(&self.names).remove(name) else { return false };
        let Named::Member(id) = named else { return true };
        if let Some(member) = self.get(id) {
            member.names.fetch_sub(1, AcqRel);
        }
        self.suspect(id);
        true
    }

    /// What has this public name.
    pub(crate) fn named(&self, name: &str) -> Option<Found> {
        self.found(locked(&self.names).get(name)?)
    }

    fn found(&self, named: &Named) -> Option<Found> {
        match named {
            Named::Member(id) => self.get(*id).map(Found::Member),
            Named::Kept(record) => Some(Found::Kept(Arc::clone(record))),
        }
    }

    /// All that has a public name, in the names' order.
    pub(crate) fn all_named(&self) -> Vec<(String, Found)> {
        let names = locked(&self.names);
        let found =
            names.iter().filter_map(|(name, named)| Some((name.clone(), self.found(named)?)));
        let mut all: Vec<_> = found.collect();
        drop(names);
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }

    /// Has what was in a snapshot under its names.
    pub(crate) fn keep(&self, record: Arc<Record>) {
        let mut names = locked(&self.names);
        for name in &record.names {
            names.insert(name.clone(), Named::Kept(Arc::clone(&record)));
        }
    }

    /// Puts the object that was made of a record in its place, where that is there still.
    ///
    /// # Errors
    /// There is no memory for an entry.
    pub(crate) fn revive(&self, record: &Arc<Record>, made: Made) -> io::Result<()> {
        let member = self.insert(made)?;
        let mut names = locked(&self.names);
        for named in names.values_mut() {
            if matches!(named, Named::Kept(other) if Arc::ptr_eq(other, record)) {
                member.names.fetch_add(1, Relaxed);
                *named = Named::Member(member.entry.id());
            }
        }
        Ok(())
    }

    /// A reference is gone. True: it was the last one.
    pub(crate) fn unrefer(&self, member: &Member) -> bool {
        let is_last = member.references.fetch_sub(1, AcqRel) == 1;
        if is_last {
            self.suspect(member.entry.id());
        }
        is_last
    }

    /// Somebody has let go of it.
    pub(crate) fn suspect(&self, id: Id) {
        locked(&self.suspects).push(id);
    }

    /// Nobody knows of which objects somebody has let go.
    pub(crate) fn suspect_all(&self) {
        let members = locked(&self.members);
        *locked(&self.suspects) = members.keys().copied().collect();
    }

    /// Whether there are suspects.
    pub(crate) fn has_suspects(&self) -> bool {
        !locked(&self.suspects).is_empty()
    }

    /// Takes out the objects that nobody has any more, for the caller to drop. Those that are in use here, and
    /// that nobody else holds, stay suspects.
    pub(crate) fn take_unclaimed(&self) -> Vec<Arc<Member>> {
        let mut suspects = std::mem::take(&mut *locked(&self.suspects));
        let mut unclaimed = Vec::new();
        if suspects.is_empty() {
            return unclaimed;
        }
        {
            let mut members = locked(&self.members);
            suspects.retain(|id| {
                let Some(member) = members.get(id) else { return false };
                if member.references.load(Acquire) > 0 || member.names.load(Acquire) > 0 {
                    return false;
                }
                // A method runs, or a handle is in an answer that isn't sent yet: either may be about to be
                // somebody else's. So this comes before the next look; and nobody begins anything while the
                // members are locked.
                let is_in_use = Arc::strong_count(member) > 1 || !member.entry.is_only_handle();
                fence(Acquire);
                if member.entry.is_held_elsewhere() {
                    // Whoever that is will tell.
                    return false;
                }
                if !is_in_use {
                    unclaimed.extend(members.remove(id));
                }
                is_in_use
            });
        }
        locked(&self.suspects).append(&mut suspects);
        unclaimed
    }

    /// Takes all out, at the end.
    pub(crate) fn take_all(&self) -> Vec<Arc<Member>> {
        locked(&self.members).drain().map(|(_, member)| member).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::class::{Class, Managed};
    use super::*;
    use crate::shm::heap::parcel;

    struct Thing;

    impl Managed for Thing {
        type Proxy = ();

        const CLASS: Class<Self> = Class::new("Thing", &[]);
    }

    fn member(table: &Table) -> Arc<Member> {
        table.insert(Made::new(Thing)).unwrap()
    }

    #[test]
    fn an_object_dies_when_no_method_runs_and_nobody_holds_it() {
        let table = Table::default();
        let running = member(&table);
        let id = running.entry().id();
        assert!(table.take_unclaimed().is_empty() && table.has_suspects());
        let in_an_answer = running.entry().clone();
        drop(running);
        assert!(table.take_unclaimed().is_empty() && table.has_suspects());
        let running = table.get(id).unwrap();
        drop(in_an_answer);
        let message = parcel::pack(None, std::slice::from_ref(running.entry()), &[]).unwrap();
        drop(running);
        assert!(table.take_unclaimed().is_empty());
        assert!(!table.has_suspects(), "whoever gets the message will tell");
        let before = heap::unclaimed();
        drop(message);
        assert_ne!(heap::unclaimed(), before);
        assert!(table.get(id).is_some());
        table.suspect_all();
        assert_eq!(table.take_unclaimed().len(), 1);
        assert!(table.get(id).is_none() && !table.has_suspects());
    }

    #[test]
    fn references_and_names_keep_an_object() {
        let table = Table::default();
        let running = member(&table);
        let id = running.entry().id();
        running.refer();
        assert!(table.name("a".to_owned(), &running) && table.name("b".to_owned(), &running));
        assert!(!table.name("a".to_owned(), &running));
        assert!(table.unrefer(&running));
        drop(running);
        assert!(table.take_unclaimed().is_empty() && !table.has_suspects());
        assert!(matches!(table.named("a"), Some(Found::Member(found)) if found.entry().id() == id));
        assert!(table.unname("a") && !table.unname("a"));
        assert!(table.take_unclaimed().is_empty());
        assert!(table.unname("b"));
        assert_eq!(table.take_unclaimed().len(), 1);
        assert!(table.named("b").is_none());
    }
}
