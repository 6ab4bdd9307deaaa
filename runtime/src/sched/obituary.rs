//! Early word of deaths: threads that sleep until the thread that runs some worker's tasks has ended.
//!
//! A pidfd tells only after the kernel has freed all of the process's memory. This tells when it begins to:
//! each worker holds a robust mutex in its page ([`Robust`](crate::os::robust::Robust)), and a *vigil*
//! sleeps on the words of up to 127 of them at once, and on a bell of its own for changes.
//!
//! ```text
//! listed, word 0 ---the worker holds it, and the bell is rung---> watched ---its thread ends---> told, off the list
//!                                                                   |---changed otherwise, or dropped---> off the list
//! ```
//!
//! A worker is not trusted: any other change of its word ends the watch, and its pidfd tells its death, as it
//! does where the kernel can't sleep on several words (before Linux 5.16).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::os::memory::Shared;
use crate::os::robust::Owner;
use crate::os::{futex, signals};
use crate::shm::page::Page;

/// How many words one thread can sleep on beside its bell.
const MOST: usize = futex::MOST_WORDS - 1;

/// Sleeps while all words have the values beside them: [`futex::wait_any`], but for tests.
type Wait = fn(&[(&AtomicU32, u32)], Option<Duration>) -> io::Result<()>;

/// How long nothing is done after an end was told, for those who wait for it to hear of it: about as long as
/// it takes to wake them.
pub(super) const PAUSE: Duration = Duration::from_micros(100);

/// Who is told of an end, on the vigil's thread.
pub(super) trait Tell: Send {
    /// The thread has ended.
    fn tell(&self);

    /// [`PAUSE`] has passed since.
    fn go_on(&self);
}

/// A worker is watched as long as this lives, or until its end is told.
pub(super) struct Watch {
    vigil: Arc<Vigil>,
    number: u64,
}

/// One thread and what it watches.
struct Vigil {
    wait: Wait,
    /// Changes with the list.
    bell: AtomicU32,
    list: Mutex<List>,
    /// Whether its thread has given up.
    is_over: AtomicBool,
}

#[derive(Default)]
struct List {
    next: u64,
    watched: BTreeMap<u64, Watched>,
}

struct Watched {
    page: Arc<Shared<Page>>,
    /// The word's value since it was seen first.
    value: Option<u32>,
    kin: Box<dyn Tell>,
}

/// A word to sleep on. It keeps the memory, whatever becomes of the list meanwhile.
struct Living {
    page: Arc<Shared<Page>>,
    value: u32,
}

/// One for each 127 workers of this process. They never end, unless the kernel refuses.
static VIGILS: Mutex<Vec<Arc<Vigil>>> = Mutex::new(Vec::new());

/// Has `kin` told once the thread that holds the mutex in `page` has ended. It is looked for with the next
/// [`look`]. None: it can't be watched.
pub(super) fn watch(page: &Arc<Shared<Page>>, kin: Box<dyn Tell>) -> Option<Watch> {
    let mut vigils = VIGILS.lock().unwrap_or_else(PoisonError::into_inner);
    vigils.retain(|vigil| !vigil.is_over.load(Ordering::Relaxed));
    let vigil = match vigils.iter().find(|vigil| vigil.list().watched.len() < MOST) {
        Some(vigil) => Arc::clone(vigil),
        None => {
            let vigil = Vigil::start(futex::wait_any).ok()?;
            vigils.push(Arc::clone(&vigil));
            vigil
        }
    };
    // Under the lock of all, or others would fill the place.
    let watch = vigil.add(page, kin);
    if page.pulse.owner() != Owner::None {
        // The worker was faster, and the call of `look` for it was in vain.
        watch.vigil.ring();
    }
    Some(watch)
}

/// Looks for mutexes that are held by now.
pub(super) fn look() {
    let vigils = VIGILS.lock().unwrap_or_else(PoisonError::into_inner);
    vigils.iter().filter(|vigil| vigil.has_newcomers()).for_each(|vigil| vigil.ring());
}

impl Vigil {
    /// # Errors
    /// The kernel can't sleep on several words, or there may be no more threads.
    fn start(wait: Wait) -> io::Result<Arc<Self>> {
        let bell = AtomicU32::new(0);
        // It never has this value: the call returns at once, if there is such a call.
        wait(&[(&bell, 1)], None)?;
        let (list, is_over) = (Mutex::default(), AtomicBool::new(false));
        let vigil = Arc::new(Self { wait, bell, list, is_over });
        let its_own = Arc::clone(&vigil);
        let run = move || {
            if catch_unwind(|| its_own.run()).is_err() {
                eprintln!(
                    "procession: the watch over workers has panicked, which is a bug in procession"
                );
                std::process::abort();
            }
        };
        thread::Builder::new().name("procession end".into()).spawn(run)?;
        Ok(vigil)
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(self: Arc<Self>, page: &Arc<Shared<Page>>, kin: Box<dyn Tell>) -> Watch {
        let mut list = self.list();
        let number = list.next;
        list.next += 1;
        list.watched.insert(number, Watched { page: Arc::clone(page), value: None, kin });
        drop(list);
        Watch { vigil: self, number }
    }

    fn has_newcomers(&self) -> bool {
        self.list().watched.values().any(|watched| watched.value.is_none())
    }

    /// Has the thread look at its list.
    fn ring(&self) {
        self.bell.fetch_add(1, Ordering::Release);
        futex::wake(&self.bell, 1);
    }

    fn run(&self) {
        signals::block_all_on_this_thread();
        let Err(_) = self.watch();
        // The kernel refuses, perhaps for lack of memory. The pidfds tell.
        self.is_over.store(true, Ordering::Relaxed);
        let list = std::mem::take(&mut *self.list());
        drop(list);
    }

    fn watch(&self) -> io::Result<Infallible> {
        loop {
            let rung = self.bell.load(Ordering::Acquire);
            let (living, ended) = self.look();
            if !ended.is_empty() {
                ended.iter().for_each(|kin| kin.tell());
                thread::sleep(PAUSE);
                ended.iter().for_each(|kin| kin.go_on());
            }
            drop(ended);
            let bell = std::iter::once((&self.bell, rung));
            let words = living.iter().map(|living| (living.page.pulse.word(), living.value));
            (self.wait)(&bell.chain(words).collect::<Vec<_>>(), None)?;
        }
    }

    /// Takes off the list whose word has changed. The others are to be slept on, unless they haven't begun.
    fn look(&self) -> (Vec<Living>, Vec<Box<dyn Tell>>) {
        let mut list = self.list();
        let (mut living, mut ended, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        for (number, watched) in &mut list.watched {
            match watched.page.pulse.owner() {
                Owner::None if watched.value.is_none() => {}
                Owner::Lives(value) if watched.value.is_none_or(|known| known == value) => {
                    watched.value = Some(value);
                    living.push(Living { page: Arc::clone(&watched.page), value });
                }
                Owner::Ended => ended.push(*number),
                Owner::None | Owner::Lives(_) => lost.push(*number),
            }
        }
        for number in lost {
            list.watched.remove(&number);
        }
        let ended = ended.iter().filter_map(|number| list.watched.remove(number));
        (living, ended.map(|watched| watched.kin).collect())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let watched = self.vigil.list().watched.remove(&self.number);
        if watched.is_some_and(|watched| watched.value.is_some()) {
            self.vigil.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    impl Tell for Sender<()> {
        fn tell(&self) {
            self.send(()).unwrap();
        }

        fn go_on(&self) {}
    }

    fn page() -> Arc<Shared<Page>> {
        Arc::new(Shared::create(c"procession-test").unwrap().0)
    }

    /// A vigil, a worker's page in it, and what tells of its end.
    fn vigil(wait: Wait) -> (Arc<Vigil>, Arc<Shared<Page>>, Watch, Receiver<()>) {
        let vigil = Vigil::start(wait).unwrap();
        let page = page();
        let (sender, receiver) = channel();
        let watch = add(&vigil, &page, sender);
        (vigil, page, watch, receiver)
    }

    fn add(vigil: &Arc<Vigil>, page: &Arc<Shared<Page>>, sender: Sender<()>) -> Watch {
        Arc::clone(vigil).add(page, Box::new(sender))
    }

    fn watched(vigil: &Vigil) -> usize {
        vigil.list().watched.len()
    }

    /// Acts as a worker: its C library when it locks, and its kernel when it ends.
    fn set(page: &Page, value: u32) {
        page.pulse.word().store(value, Ordering::Release);
        futex::wake(page.pulse.word(), 1);
    }

    fn wait_until(condition: impl Fn() -> bool) {
        while !condition() {
            thread::yield_now();
        }
    }

    const DEAD: u32 = 0xc000_0000;

    #[test]
    fn an_end_is_told_once() {
        let (vigil, page, watch, told) = vigil(futex::wait_any);
        set(&page, 17);
        vigil.ring();
        wait_until(|| !vigil.has_newcomers());
        assert!(told.try_recv().is_err());
        set(&page, DEAD);
        told.recv().unwrap();
        // The sender has gone, too.
        assert!(told.recv().is_err());
        assert_eq!(watched(&vigil), 0);
        drop(watch);
    }

    #[test]
    fn who_has_ended_before_is_told_of_as_well() {
        let (vigil, page, _watch, told) = vigil(futex::wait_any);
        set(&page, DEAD);
        vigil.ring();
        told.recv().unwrap();
    }

    #[test]
    fn other_changes_end_the_watch_and_nothing_is_told() {
        for value in [18, 0] {
            let (vigil, page, _watch, told) = vigil(futex::wait_any);
            set(&page, 17);
            vigil.ring();
            wait_until(|| !vigil.has_newcomers());
            set(&page, value);
            assert!(told.recv().is_err());
            assert_eq!(watched(&vigil), 0);
        }
    }

    #[test]
    fn one_that_is_dropped_is_forgotten() {
        let (vigil, page, watch, told) = vigil(futex::wait_any);
        set(&page, 17);
        vigil.ring();
        wait_until(|| !vigil.has_newcomers());
        drop(watch);
        assert!(told.recv().is_err());
        // Its memory is let go as well, although the thread sleeps on.
        wait_until(|| Arc::strong_count(&page) == 1);
    }

    #[test]
    fn a_kernel_without_the_call_is_an_error() {
        let refuse: Wait = |_, _| Err(io::Error::from_raw_os_error(nix::libc::ENOSYS));
        assert!(Vigil::start(refuse).is_err());
    }

    #[test]
    fn a_kernel_that_refuses_later_ends_the_vigil() {
        let refuse: Wait = |words, timeout| match words {
            [_] => futex::wait_any(words, timeout),
            _ => Err(io::Error::from_raw_os_error(nix::libc::ENOMEM)),
        };
        let (vigil, page, _watch, told) = vigil(refuse);
        set(&page, 17);
        vigil.ring();
        assert!(told.recv().is_err());
        wait_until(|| vigil.is_over.load(Ordering::Relaxed) && watched(&vigil) == 0);
    }

    #[test]
    fn a_thread_watches_as_many_as_the_kernel_lets_it() {
        let vigil = Vigil::start(futex::wait_any).unwrap();
        let pages: Vec<_> = (0..MOST).map(|_| page()).collect();
        let (sender, told) = channel();
        let _watches: Vec<_> = pages.iter().map(|page| add(&vigil, page, sender.clone())).collect();
        pages.iter().for_each(|page| set(page, 17));
        vigil.ring();
        wait_until(|| !vigil.has_newcomers());
        for page in &pages {
            set(page, DEAD);
            told.recv().unwrap();
        }
        assert_eq!(watched(&vigil), 0);
        assert!(!vigil.is_over.load(Ordering::Relaxed));
    }
}
