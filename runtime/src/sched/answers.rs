//! Taking in what workers send. None of it is trusted: what isn't a frame, or isn't the answer that is
//! due, costs the worker its life and its item, and nothing else.

use std::sync::Arc;

use super::boards::{Taken, take_runs};
use super::core::Core;
use super::ledger::Run;
use super::outcome::Answer;
use super::queue::JobKey;
use super::staff::{LEAVE_LIMIT, Phase};
use super::turnover::PIDFD;
use crate::error::{Error, Kind as Cause, PanicInfo};
use crate::os::clock;
use crate::os::epoll::Epoll;
use crate::shm::heap::{Id, Kind as ObjectKind, Object};
use crate::transport::board::APART;
use crate::transport::frame::{Header, Kind, Small};
use crate::transport::hello::Role;
use crate::transport::{Received, codec};

/// What came out of a worker's stream besides results.
enum Next {
    Nothing,
    Settled(JobKey),
    /// What came about an item of a board: its number, the head of the frame, and what follows.
    Apart(u32, [u8; APART], Vec<u8>),
    Other(Header, Vec<u8>),
    Breach(String),
}

impl Core {
    /// Takes in what the workers have sent: those whose descriptors are ready, and those whose rings show it.
    pub(super) fn handle(&mut self, ready: &[u64], epoll: &Epoll) {
        for token in ready {
            if token & PIDFD == 0 {
                self.read(*token, epoll);
            } else {
                self.bury(token & !PIDFD, epoll);
            }
        }
        self.is_calm &= ready.is_empty();
        let watches = Arc::clone(&self.watches);
        for (id, watch) in watches.iter() {
            if watch.has_news() {
                self.read(*id, epoll);
            }
        }
        let is_blocked = self.workers.values().any(|worker| worker.blocked);
        if !self.is_calm || is_blocked || self.has_answers && !self.has_nothing_to_give() {
            self.feed(epoll);
        }
    }

    /// Reads once: what is left makes the socket ready again.
    pub(super) fn read(&mut self, id: u64, epoll: &Epoll) {
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.open) else { return };
        let received = worker.end.receive();
        self.take_in(id);
        let is_process = self.plan.role != Role::Pool;
        let worker = self.workers.get_mut(&id).expect("only its burial removes it");
        if is_process && matches!(received, Ok(Received::End)) {
            // It doesn't send what has room in the page.
            worker.end.look();
            self.take_in(id);
        }
        let worker = self.workers.get_mut(&id).expect("only its burial removes it");
        if is_process && worker.record.has_answered {
            // That was all; its end comes next, and the end of the stream is no news.
            worker.open = false;
            let _ = epoll.remove(worker.end.as_fd());
        } else if matches!(received, Ok(Received::End) | Err(_)) {
            self.hang_up(id, epoll);
        }
    }

    /// The stream has ended or can't be used. The rest is told by the worker's death.
    pub(super) fn hang_up(&mut self, id: u64, epoll: &Epoll) {
        if let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.open) {
            self.is_calm = false;
            worker.open = false;
            worker.gone_by = Some(clock::nanos().saturating_add(LEAVE_LIMIT));
            let _ = epoll.remove(worker.end.as_fd());
            self.watch_anew();
        }
    }

    /// Handles all whole frames of a worker.
    pub(super) fn take_in(&mut self, id: u64) {
        loop {
            match self.take_values(id) {
                Next::Nothing => return,
                Next::Settled(key) => self.end_job(key, None),
                Next::Apart(item, head, long) => {
                    if let Err(what) = self.hear_apart(id, item, head, long) {
                        return self.distrust(id, what);
                    }
                }
                Next::Other(header, body) => {
                    if let Err(what) = self.hear(id, header, &body) {
                        return self.distrust(id, what);
                    }
                }
                Next::Breach(what) => return self.distrust(id, what),
            }
        }
    }

    /// Takes in results, the common case, until there is something else to do. This loop runs for every
    /// item: it strikes it off the ledger and copies its bytes, once, from the worker's buffer.
    fn take_values(&mut self, id: u64) -> Next {
        let Self {
            workers, jobs, boards, barren_deaths, paces, has_answers, news, is_calm, ..
        } = self;
        let Some(worker) = workers.get_mut(&id) else { return Next::Nothing };
        loop {
            if Small::begins(worker.end.bytes()) {
                let Some((run, number)) = worker.ledger.due() else {
                    return Next::Breach("a result that nobody waits for".to_owned());
                };
                let Run { job: key, items } = run.clone();
                let bytes = worker.end.bytes();
                let (count, length, is_settled) = match jobs.get(key) {
                    Some(work) => {
                        worker.latest = Some(work.job.spec.callee);
                        let (count, length) = work.settle_tiny(items, number, bytes);
                        (count, length, work.is_settled())
                    }
                    // The job is done already; its late results are dropped one by one.
                    None => match Small::parse(bytes) {
                        Some((got, length)) if got == number & Small::NUMBER => {
                            let length = Small::SIZE + length;
                            (u32::from(bytes.len() >= length), length, false)
                        }
                        _ => (0, 0, false),
                    },
                };
                if count == 0 {
                    return match Small::parse(bytes) {
                        Some((got, _)) if got != number & Small::NUMBER => Next::Breach(format!(
                            "a tiny result with the number {got}, which isn't due"
                        )),
                        _ => Next::Nothing,
                    };
                }
                let whole_at = worker.ledger.due_whole_at();
                worker.record.has_settled(count as usize, whole_at, barren_deaths, has_answers);
                worker.end.skip(length);
                worker.ledger.answered_many(count);
                if is_settled {
                    return Next::Settled(key);
                }
                continue;
            }
            let (header, mut body) = match worker.end.next() {
                Ok(Some(frame)) => frame,
                Ok(None) => return Next::Nothing,
                Err(malformed) => return Next::Breach(malformed.to_string()),
            };
            match header.kind {
                Kind::Value => {}
                Kind::Values => {
                    let taken = match take_runs(&worker.parts, boards, jobs, body.bytes(), None) {
                        Ok(taken) => taken,
                        Err(what) => return Next::Breach(what),
                    };
                    let Taken { answers, whole_at, settled } = taken;
                    worker.record.has_settled(answers, whole_at, barren_deaths, has_answers);
                    match settled {
                        None => continue,
                        Some(settled) => return Next::Settled(settled),
                    }
                }
                Kind::Spent
                    if let Some(callee) = worker.latest
                        && let Some(nanos) = body.bytes().first_chunk() =>
                {
                    paces.observe(&callee, header.number, u64::from_le_bytes(*nanos));
                    continue;
                }
                Kind::Apart => {
                    let Some((head, long)) = body.split_off() else {
                        return Next::Breach("half a result".to_owned());
                    };
                    *is_calm &= !worker.shrink_later();
                    return Next::Apart(header.number, head, long);
                }
                _ => return Next::Other(header, body.bytes().to_vec()),
            }
            let whole_at = worker.ledger.due_whole_at();
            let Some((key, item)) = worker.ledger.answered(header.number) else {
                return Next::Breach(format!("a result for item {}", header.number));
            };
            worker.record.has_settled(1, whole_at, barren_deaths, has_answers);
            let tail = body.take_tail();
            let is_long = tail.is_some();
            let Some(work) = jobs.get(key) else {
                news.free(tail);
                *is_calm &= !(is_long && worker.shrink_later());
                continue;
            };
            worker.latest = Some(work.job.spec.callee);
            news.free(work.let_go(item));
            match tail {
                None => work.settle(item, Answer::Value(body.bytes())),
                Some(tail) if work.is_open(item) => {
                    work.settle(item, Answer::Large(body.bytes().to_vec(), tail))
                }
                late => {
                    news.free(late);
                    false
                }
            };
            *is_calm &= !(is_long && worker.shrink_later());
            if work.is_settled() {
                return Next::Settled(key);
            }
        }
    }

    /// Handles a frame other than a value; an error says what is wrong with it.
    pub(super) fn hear(&mut self, id: u64, header: Header, body: &[u8]) -> Result<(), String> {
        self.is_calm = false;
        let worker = self.workers.get_mut(&id).expect("the caller has just had it");
        let text = || String::from_utf8_lossy(body).into_owned();
        let kind = match header.kind {
            Kind::Ready => {
                let initializes = self.plan.initializer.is_some();
                if !matches!(worker.phase, Phase::Starting { .. }) {
                    return Ok(());
                }
                worker.phase = if initializes { Phase::Initializing } else { Phase::Ready };
                worker.was_ready = !initializes;
                self.news.is_ready = true;
                if !initializes {
                    self.early_deaths = 0;
                    self.has_worked = true;
                }
                return Ok(());
            }
            Kind::InitDone => {
                if worker.phase == Phase::Initializing {
                    worker.phase = Phase::Ready;
                }
                worker.was_ready = true;
                self.has_worked = true;
                self.early_deaths = 0;
                return Ok(());
            }
            // Past its beginnings a worker has no say over the whole pool.
            Kind::Refused | Kind::InitFailed if worker.is_at_work() => {
                return Err(format!("a frame {:?} after it was ready", header.kind));
            }
            Kind::Refused => {
                let error = Error::new(Cause::Start(text())).by_worker(worker.pid);
                worker.doom = Some(error.clone());
                self.end(error);
                return Ok(());
            }
            Kind::InitFailed => {
                let name = self.plan.initializer.as_ref().map_or("", |task| &task.name);
                let text = format!("the initializer `{name}` failed: {}", text());
                worker.kill(Some(Error::new(Cause::Start(text)).by_worker(worker.pid)));
                return Ok(());
            }
            // Of a callable that nothing is known of, or half of one.
            Kind::Spent if body.len() < 8 => return Err("half a report of time".to_owned()),
            Kind::Spent => return Ok(()),
            Kind::Left => return self.left(id, header.number, body),
            Kind::More => return self.call_more(body),
            kind => kind,
        };
        let answer = verdict(kind, body)?;
        let (key, item) = self.answered(id, header.number)?;
        let worker = self.workers.get_mut(&id).expect("it is still there");
        let pid = worker.pid;
        if let Some(work) = self.jobs.get(key) {
            worker.latest = Some(work.job.spec.callee);
            let answer = answer.unwrap_or_else(|cause| {
                let error = Error::new(cause).of_task(&work.job.spec.task);
                let error = error.at_index(work.index(item)).by_worker(pid);
                worker.last_error = Some(error.clone());
                Answer::Failed(error)
            });
            self.settle(key, item, answer);
        }
        Ok(())
    }

    /// Strikes an item off a worker's ledger.
    fn answered(&mut self, id: u64, number: u32) -> Result<(JobKey, u32), String> {
        let worker = self.workers.get_mut(&id).expect("the caller has just had it");
        let whole_at = worker.ledger.due_whole_at();
        let answered = worker.ledger.answered(number);
        let answered = answered.ok_or_else(|| format!("a result for item {number}"))?;
        let Self { barren_deaths, has_answers, .. } = self;
        worker.record.has_settled(1, whole_at, barren_deaths, has_answers);
        Ok(answered)
    }

    /// A worker that doesn't speak the protocol is killed; its death does the rest.
    pub(super) fn distrust(&mut self, id: u64, what: String) {
        if let Some(worker) = self.workers.get_mut(&id) {
            let error = Error::new(Cause::Protocol(what)).by_worker(worker.pid);
            worker.kill(Some(error));
        }
    }
}

/// What a frame says of an item, unless it is a plain value: a result with handles, or why it has none.
///
/// # Errors
/// It is a frame that no worker sends, or half of one.
pub(super) fn verdict(kind: Kind, body: &[u8]) -> Result<Result<Answer<'static>, Cause>, String> {
    let text = || String::from_utf8_lossy(body).into_owned();
    Ok(match kind {
        Kind::Parcel => opened(body)?
            .map(Answer::Parcel)
            .map_err(|error| Cause::Data(format!("the handles in its result are lost: {error}"))),
        Kind::Panicked => {
            let info: PanicInfo = codec::decode(body).map_err(|_| "a garbled panic")?;
            Err(Cause::Panic(info))
        }
        Kind::BadArguments => {
            Err(Cause::Data(format!("its arguments can't be decoded: {}", text())))
        }
        Kind::BadResult => Err(Cause::Data(format!("its result can't be encoded: {}", text()))),
        kind => return Err(format!("a frame {kind:?}, which only parents send")),
    })
}

/// The parcel that a frame names; an inner error if it is gone.
fn opened(body: &[u8]) -> Result<std::io::Result<Object>, String> {
    let name = body.first_chunk().map(|name| u64::from_le_bytes(*name)).and_then(Id::from_bits);
    let name = name.ok_or("half the name of a parcel")?;
    match Object::receive(name) {
        Ok(object) if object.is(ObjectKind::Parcel, 0) => Ok(Ok(object)),
        Ok(_) => Err("a parcel that is none".to_owned()),
        Err(error) => Ok(Err(error)),
    }
}
