//! The loop in the child: one frame after the other, one item after the other.
//!
//! For an item: claim it (the parent may have taken it back), run it, put its result into the outlet.
//! No system call stands between two items of a frame, and none between two frames that have arrived.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::boards::Boards;
use super::dispatch::{Args, Callee, Ran, Run, RunError};
use super::outlet::Outlet;
use super::{item, panics};
use crate::os::clock;
use crate::os::memory::Shared;
use crate::shm::claim::Position;
use crate::shm::heap::{Object, parcel};
use crate::shm::page::Page;
use crate::transport::WorkerInput;
use crate::transport::codec;
use crate::transport::frame::{Body, Kind};
use crate::transport::hello::Role;
use crate::transport::message::{CalleeBytes, Items, TaskHead};

/// While more frames wait, results are sent at least this often.
const PATIENCE: Duration = Duration::from_micros(200);

/// A result buffer above this is given back after its item.
pub(super) const KEPT: usize = 1 << 20;

/// Of frames that take less than this, only one in some is timed: a look at the clock costs as much as the
/// tiniest call.
const TINY: Duration = Duration::from_micros(2);
const UNTIMED: u32 = 15;

const NEVER_SENT: &str = "its bound arguments were never sent";

/// A callable that is ready to run, or why it isn't.
pub(super) type Prepared = Result<Box<dyn Run>, String>;

pub(super) struct Tasks {
    input: Box<dyn WorkerInput>,
    runner: Runner,
    boards: Boards,
    role: Role,
}

/// All but the input, which lends the frames that the rest works on.
pub(super) struct Runner {
    outlet: Outlet,
    page: Arc<Shared<Page>>,
    bound: HashMap<u64, Prepared>,
    /// The callable that was used last without bound arguments.
    latest: Option<(CalleeBytes, Prepared)>,
    result: Vec<u8>,
    /// How many more frames aren't timed, if they are of the latest callable.
    untimed: u32,
    sent: Instant,
    /// How long results may gather. What a single process has to tell, it tells at its end.
    patience: Duration,
    /// The process that results go to.
    parent: u32,
}

/// How an item ended, for a process that runs just one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Well,
    Badly,
    InPanic,
}

impl Tasks {
    pub(super) fn new(
        input: Box<dyn WorkerInput>,
        outlet: Outlet,
        page: Arc<Shared<Page>>,
        role: Role,
        parent: u32,
    ) -> Self {
        let runner = Runner {
            outlet,
            page,
            bound: HashMap::new(),
            latest: None,
            result: Vec::new(),
            untimed: 0,
            sent: Instant::now(),
            patience: if role == Role::Pool { PATIENCE } else { Duration::MAX },
            parent,
        };
        Self { input, runner, boards: Boards::default(), role }
    }

    /// Serves until the parent says stop or is gone; returns the exit code.
    pub(super) fn serve(self) -> i32 {
        let Self { mut input, mut runner, mut boards, role } = self;
        runner.outlet.put(Kind::Ready, 0, &[]);
        // A single process has its task before it, and tells all at its end.
        let mut has_news = role == Role::Pool;
        loop {
            while !boards.is_empty() && !input.poll() {
                boards.work(&mut runner, &mut *input);
            }
            boards.publish(&mut runner);
            if has_news && input.is_ready() {
                runner.be_patient();
            } else if has_news {
                runner.flush();
                runner.outlet.rest(&mut *input);
            }
            has_news = true;
            let (header, body) = match input.next() {
                Ok(Some(frame)) => frame,
                Ok(None) => return 0,
                Err(error) => {
                    eprintln!("procession: this worker can't read from its parent: {error}");
                    return 1;
                }
            };
            let ended = match header.kind {
                Kind::Tasks => runner.run_all(header.number, body),
                Kind::Init => runner.initialize(body.bytes()),
                Kind::Bind => runner.bind(body.bytes()),
                Kind::Forget => runner.forget(body.bytes()),
                Kind::Exit => Some(Ended::Well),
                Kind::Join => boards.join(body.bytes()).map(|()| Ended::Well),
                _ => None,
            };
            let over = header.kind == Kind::Exit
                || header.kind == Kind::Init && ended != Some(Ended::Well)
                || header.kind == Kind::Tasks && role != Role::Pool;
            match ended {
                None => {
                    eprintln!("procession: this worker can't understand its parent");
                    return 1;
                }
                Some(ended) if over => {
                    // The parent of a process looks into the page when it has ended, and isn't woken before.
                    if role == Role::Pool {
                        runner.flush();
                    }
                    return match ended {
                        Ended::Well => 0,
                        Ended::Badly => 1,
                        Ended::InPanic => 101,
                    };
                }
                Some(_) => {}
            }
        }
    }
}

impl Runner {
    fn flush(&mut self) {
        self.outlet.flush();
    }

    pub(super) fn page(&self) -> Arc<Shared<Page>> {
        Arc::clone(&self.page)
    }

    pub(super) fn clear_note(&self) {
        self.page.note.clear();
    }

    pub(super) fn outlet(&mut self) -> &mut Outlet {
        &mut self.outlet
    }

    /// Runs the items of a frame until one has been taken back: those after it have been, too.
    fn run_all(&mut self, first: u32, mut body: Body<'_>) -> Option<Ended> {
        let (head, items) = TaskHead::split(body.bytes())?;
        let mut tail = body.take_tail();
        let is_known = self.latest.as_ref().is_some_and(|(latest, _)| *latest == head.callee);
        let began = (self.untimed == 0 || !is_known).then(Instant::now);
        self.untimed = self.untimed.saturating_sub(1);
        let mut ended = Ended::Well;
        let mut done = 0_u32;
        let prepared = self.take_prepared(&head.callee, head.bound);
        let sizes = prepared.as_ref().map(|run| run.sizes()).unwrap_or_default();
        let mut items = Items::new(items, sizes.args.filter(|_| head.typed));
        item::set_attempt(head.attempt);
        for number in first..first.checked_add(head.count)? {
            let arguments = match tail.take() {
                // It is the only item, and its length is that of its frame.
                Some(tail) => Args::Apart(items.rest().get(size_of::<u64>()..)?, tail),
                // Without the callable nobody knows how long each is, and nobody wants it.
                None if prepared.is_err() => Args::Whole(&[]),
                None => Args::Whole(items.next()?),
            };
            let position = Position { epoch: head.epoch, number };
            if !self.page.claim.start(position) {
                break;
            }
            item::begin(position);
            if head.timed {
                self.page.claim.set_start(position, clock::nanos());
            }
            self.page.note.clear();
            ended = self.run_one(&prepared, head.typed, number, arguments);
            done += 1;
        }
        item::set_attempt(0);
        self.put_back_prepared(head.callee, head.bound, prepared);
        if let Some(began) = began {
            self.report(done, began);
        }
        Some(ended)
    }

    /// Says how long so many items have taken.
    fn report(&mut self, done: u32, began: Instant) {
        let spent = began.elapsed();
        if done > 0 {
            self.outlet.put(Kind::Spent, done, &clock::nanos_of(spent).to_le_bytes());
        }
        self.untimed = if spent < TINY { UNTIMED } else { 0 };
    }

    /// More frames wait: sends results that have waited for others, and begins to time frames again, if much
    /// time has passed.
    fn be_patient(&mut self) {
        let now = Instant::now();
        if now - self.sent > self.patience {
            self.flush();
            self.sent = now;
            self.untimed = 0;
        }
    }

    fn run_one(&mut self, prepared: &Prepared, typed: bool, number: u32, item: Args<'_>) -> Ended {
        let run = match prepared {
            Ok(run) => run,
            Err(why) => {
                self.outlet.put(Kind::BadArguments, number, why.as_bytes());
                return Ended::Badly;
            }
        };
        self.result.clear();
        let result = &mut self.result;
        let ended = match panics::catch(|| run.run(item, typed, result)) {
            Ok(Ok(Ran { tail: Some(tail), .. })) => {
                self.outlet.put_long(number, &self.result, (*tail).as_ref());
                Ended::Well
            }
            Ok(Ok(Ran { handles, .. })) if handles.is_empty() => {
                self.outlet.put(Kind::Value, number, &self.result);
                Ended::Well
            }
            Ok(Ok(Ran { handles, .. })) => match self.parcel(&handles, &self.result) {
                Ok(parcel) => {
                    self.outlet.put(Kind::Parcel, number, &parcel.id().to_bits().to_le_bytes());
                    Ended::Well
                }
                Err(error) => {
                    self.outlet.put(Kind::BadResult, number, error.to_string().as_bytes());
                    Ended::Badly
                }
            },
            Ok(Err(RunError::Args(error))) => {
                self.outlet.put(Kind::BadArguments, number, error.to_string().as_bytes());
                Ended::Badly
            }
            Ok(Err(RunError::Result(error))) => {
                self.outlet.put(Kind::BadResult, number, error.to_string().as_bytes());
                Ended::Badly
            }
            Err(panic) => {
                let mut body = Vec::new();
                codec::encode(&panic, &mut body).expect("texts can be encoded");
                self.outlet.put(Kind::Panicked, number, &body);
                Ended::InPanic
            }
        };
        if self.result.capacity() > KEPT {
            self.result = Vec::new();
        }
        ended
    }

    /// A result with handles, which the parent holds from now on.
    pub(super) fn parcel(&self, handles: &[Object], result: &[u8]) -> io::Result<Object> {
        let parcel = parcel::pack(None, handles, result)?;
        parcel::give(&parcel, self.parent)?;
        Ok(parcel)
    }

    /// The callable of a frame, taken out so that it can run while the outlet is in use.
    pub(super) fn take_prepared(&mut self, callee: &CalleeBytes, bound: u64) -> Prepared {
        if bound != 0 {
            let unknown = || Err(NEVER_SENT.to_owned());
            return self.bound.remove(&bound).unwrap_or_else(unknown);
        }
        match self.latest.take() {
            Some((latest, prepared)) if latest == *callee => prepared,
            _ => prepare(callee, &[]),
        }
    }

    pub(super) fn put_back_prepared(
        &mut self,
        callee: CalleeBytes,
        bound: u64,
        prepared: Prepared,
    ) {
        if bound != 0 {
            // What was forgotten stays forgotten.
            if !matches!(&prepared, Err(why) if why == NEVER_SENT) {
                self.bound.insert(bound, prepared);
            }
        } else {
            self.latest = Some((callee, prepared));
        }
    }

    fn initialize(&mut self, body: &[u8]) -> Option<Ended> {
        let (head, items) = TaskHead::split(body)?;
        let item = Items::new(items, None).next()?;
        let prepared = self.take_prepared(&head.callee, head.bound);
        let result = &mut self.result;
        let failure = match &prepared {
            Err(why) => Some(why.clone()),
            Ok(run) => match panics::catch(|| run.run(Args::Whole(item), false, result)) {
                Ok(Ok(_)) => None,
                Ok(Err(RunError::Args(error) | RunError::Result(error))) => Some(error.to_string()),
                Err(panic) => Some(format!("it panicked{panic}")),
            },
        };
        self.result.clear();
        self.put_back_prepared(head.callee, head.bound, prepared);
        match failure {
            None => self.outlet.put(Kind::InitDone, 0, &[]),
            Some(why) => {
                self.outlet.put(Kind::InitFailed, 0, why.as_bytes());
                return Some(Ended::Badly);
            }
        }
        self.page.note.clear();
        Some(Ended::Well)
    }

    fn bind(&mut self, body: &[u8]) -> Option<Ended> {
        let (number, body) = body.split_first_chunk()?;
        let (callee, arguments) = body.split_first_chunk()?;
        self.bound.insert(u64::from_le_bytes(*number), prepare(callee, arguments));
        self.page.claim.has_prepared();
        Some(Ended::Well)
    }

    fn forget(&mut self, body: &[u8]) -> Option<Ended> {
        let forgotten = self.bound.remove(&u64::from_le_bytes(*body.first_chunk()?));
        // The user's values; what their destructors do is no task's failure.
        let _ = panics::catch(|| drop(forgotten));
        self.page.claim.has_prepared();
        Some(Ended::Well)
    }
}

/// Decoding bound arguments runs the user's code, which may panic.
pub(super) fn prepare(callee: &CalleeBytes, bound: &[u8]) -> Prepared {
    let callee = Callee::decode(callee).ok_or("no callable is named like that")?;
    let descriptor = callee.resolve()?;
    match panics::catch(|| descriptor.prepare(bound)) {
        Ok(prepared) => prepared.map_err(|error| error.to_string()),
        Err(panic) => Err(format!("decoding the bound arguments panicked{panic}")),
    }
}
