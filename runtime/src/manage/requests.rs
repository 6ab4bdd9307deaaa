//! What clients ask for: each request is executed here, and its reply made.
//!
//! A request of a [session](super::afar) can reach the objects that this was given, and no others, and it runs
//! no code but methods and what makes managed objects.

use std::io;
use std::sync::Arc;

use serde::Serialize;

use super::afar::session::Session;
use super::call::{self, Held};
use super::class::{Failure, Invocation, Made};
use super::handle::{self, Handle};
use super::keeper;
use super::maker::Maker;
use super::protocol::{self, Breach, Call, Calls, Fault, Request};
use super::registry;
use super::server::{Server, step_down};
use super::table::{Found, Member};
use crate::shm::heap::Id;
use crate::transport::codec;
use crate::worker::dispatch::{Args, Callee, RunError};
use crate::worker::panics;

/// Methods that all objects have, behind those of any class.
pub(crate) const IS_POISONED: u16 = u16::MAX - 1;
pub(crate) const CLEAR_POISON: u16 = u16::MAX;

impl Server {
    /// Appends the reply to a request, of the family or of a `session`; gives the handles in it.
    pub(crate) fn answer(
        &'static self,
        request: &[u8],
        reply: &mut Vec<u8>,
        session: Option<&Session>,
    ) -> Result<Held, Breach> {
        let held = match Request::parse(request)? {
            Request::Call(call) => protocol::reply(reply, |out| self.call(call, session, out)),
            Request::Batch(calls) => Some(self.batch(calls, session, reply)?),
            Request::Construct { class, constructor, args } => protocol::reply(reply, |out| {
                let entry = registry::entry(class).ok_or_else(other_program)?;
                self.make(args, out, |invocation| entry.construct(constructor, invocation))
            }),
            Request::Make { maker, args } => protocol::reply(reply, |out| {
                let maker = maker.resolve().ok_or_else(other_program)?;
                self.make(args, out, |invocation| maker.make(invocation))
            }),
            // Not for anybody afar: it is any code of this program.
            Request::Run { .. } if session.is_some() => return Err(Breach),
            Request::Run { callee, args } => protocol::reply(reply, |out| run(callee, args, out)),
            Request::Name { object, name } => protocol::reply(reply, |out| {
                let member = self.member(object, session)?;
                if self.keeper().is_some() && !member.object().can_be_kept() {
                    return Err(not_kept(&member));
                }
                encode(&self.table().name(name.to_owned(), &member), out)
            }),
            Request::Unname { name } => {
                protocol::reply(reply, |out| encode(&self.table().unname(name), out))
            }
            Request::Find { maker, name } => {
                protocol::reply(reply, |out| encode(&self.find(maker.resolve(), name)?, out))
            }
            Request::Save => protocol::reply(reply, |out| encode(&self.save()?, out)),
        };
        Ok(held.unwrap_or_default())
    }

    /// What has this name. What is in the snapshot still becomes an object, if its maker is known.
    fn find(
        &'static self,
        maker: Option<&Maker>,
        name: &str,
    ) -> Result<Option<handle::Found>, Fault> {
        loop {
            let record = match self.table().named(name) {
                None => return Ok(None),
                Some(Found::Member(member)) => {
                    let (proxy, described) = (member.proxy().to_owned(), member.described());
                    let handle = Handle::here(self, member);
                    return Ok(Some(handle::Found::Object(handle, proxy, described)));
                }
                Some(Found::Kept(record)) => record,
            };
            let maker = maker.filter(|maker| maker.class() == record.class);
            let Some(maker) = maker.or_else(|| registry::maker_of(&record.class)) else {
                return Ok(Some(handle::Found::Kept(record.class.clone())));
            };
            let made = keeper::made(maker, &record)?;
            self.table().revive(&record, made).map_err(refused)?;
        }
    }

    fn save(&self) -> Result<(), Fault> {
        let keeper = self.keeper().ok_or_else(|| {
            let text = "it keeps no snapshot: make it with `Manager::builder().persist(path)`";
            Fault::Refused(text.to_owned())
        })?;
        // It takes long, and may wait for methods.
        step_down();
        keeper.save(self.table()).map_err(Fault::Refused)
    }

    /// The object with this number, which a session can only reach if it was given that.
    fn member(&self, object: Id, session: Option<&Session>) -> Result<Arc<Member>, Fault> {
        if session.is_some_and(|session| !session.has(object)) {
            return Err(Fault::Gone);
        }
        self.table().get(object).ok_or(Fault::Gone)
    }

    fn call(
        &self,
        call: Call<'_>,
        session: Option<&Session>,
        out: &mut Vec<u8>,
    ) -> Result<Held, Fault> {
        let member = self.member(call.object, session)?;
        if call.method >= IS_POISONED {
            if call.method == CLEAR_POISON {
                member.object().clear_poison();
            } else {
                let is_poisoned = member.object().is_poisoned();
                codec::encode(&is_poisoned, out).expect("a bool can be encoded");
            }
            return Ok(Held::default());
        }
        let mut invocation = Invocation::new(call.args, out);
        member.object().call(call.method, &mut invocation)?;
        Ok(invocation.into_held())
    }

    fn batch(
        &self,
        calls: Calls<'_>,
        session: Option<&Session>,
        reply: &mut Vec<u8>,
    ) -> Result<Held, Breach> {
        protocol::batch_reply(reply);
        let mut held = Held::default();
        for call in calls {
            // The reply is too long already, and won't be sent.
            if session.is_some_and(|session| reply.len() as u64 > session.longest()) {
                break;
            }
            let call = call?;
            let done = protocol::batched_reply(reply, |out| self.call(call, session, out));
            held.extend(done.unwrap_or_default());
        }
        Ok(held)
    }

    /// Appends what a constructor gives, and the object's handle.
    fn make(
        &'static self,
        args: &[u8],
        out: &mut Vec<u8>,
        construct: impl FnOnce(&mut Invocation<'_>) -> Result<Option<Made>, Failure>,
    ) -> Result<Held, Fault> {
        let made = protocol::constructed(out, |out| {
            let mut invocation = Invocation::new(args, out);
            let made = construct(&mut invocation)?;
            Ok::<_, Fault>((made, invocation.into_held()))
        });
        let (made, mut held) = made?;
        let member = made.map(|made| self.table().insert(made)).transpose().map_err(refused)?;
        held.extend(encode(&member.map(|member| Handle::here(self, member)), out)?);
        Ok(held)
    }
}

/// Runs a callable of this program.
fn run(callee: Callee, args: &[u8], out: &mut Vec<u8>) -> Result<Held, Fault> {
    let descriptor = callee.resolve().map_err(Fault::Refused)?;
    let ran = panics::catch_quietly(|| {
        let callable = descriptor.prepare(&[]).map_err(RunError::Args)?;
        callable.run(Args::Whole(args), false, out)
    });
    match ran {
        Ok(Ok(ran)) => Ok(ran.handles.into()),
        Ok(Err(RunError::Args(error))) => Err(Failure::Args(error).into()),
        Ok(Err(RunError::Result(error))) => Err(Failure::Result(error).into()),
        Err(info) => Err(Fault::Panicked(info)),
    }
}

/// Appends the result of a request of the server's own.
fn encode(result: &impl Serialize, out: &mut Vec<u8>) -> Result<Held, Fault> {
    Ok(call::encode(result, out).map_err(Failure::Result)?)
}

fn not_kept(member: &Member) -> Fault {
    Fault::Refused(format!(
        "a {} can't be in the manager's snapshot, and so can't have a name: snapshots have dictionaries, lists, \
         sets, queues, values, namespaces, and types under `#[managed(persist)]`",
        member.proxy()
    ))
}

fn other_program() -> Fault {
    Fault::Refused("the server doesn't know how to make that: it is another program".to_owned())
}

fn refused(error: io::Error) -> Fault {
    Fault::Refused(format!("the server can't own one object more: {error}"))
}
