//! Requests and replies as bytes.
//!
//! ```text
//! request   CALL u8      | object u64 | method u16 | arguments
//!           BATCH u8     | ( object u64 | method u16 | length u32 | arguments )*
//!           CONSTRUCT u8 | class u32 | constructor u16 | arguments
//!           MAKE u8      | maker 16 bytes | arguments
//!           RUN u8       | callee 17 bytes | arguments               within the family alone
//!           NAME u8      | object u64 | name
//!           UNNAME u8    | name
//!           FIND u8      | maker 16 bytes | name    the maker is for what is in a snapshot still
//!           SAVE u8
//! reply     DONE u8      | result; of a batch ( DONE u8 | length u32 | result  or  FAILED u8 | length u32 | fault )*
//!           of a constructor or maker    length u32 | its own result | the object's handle, if there is one
//!           FAILED u8    | fault
//! ```
//!
//! Numbers are little endian. A client has one request under way in each connection at most. To its server a
//! request is bytes from anybody: what isn't one of these is a [`Breach`], and ends the connection.

use serde::{Deserialize, Serialize};

use super::class::Failure;
use super::maker;
use crate::error::PanicInfo;
use crate::shm::heap::Id;
use crate::transport::codec;
use crate::worker::dispatch::Callee;

const CALL: u8 = 1;
const BATCH: u8 = 2;
const CONSTRUCT: u8 = 3;
const RUN: u8 = 4;
const MAKE: u8 = 5;
const NAME: u8 = 6;
const UNNAME: u8 = 7;
const FIND: u8 = 8;
const SAVE: u8 = 9;

const DONE: u8 = 0;
const FAILED: u8 = 1;

/// Somebody has sent what no client, or no server, sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Breach;

/// What a request asks for.
#[derive(Debug)]
pub(crate) enum Request<'a> {
    Call(Call<'a>),
    Batch(Calls<'a>),
    Construct { class: u32, constructor: u16, args: &'a [u8] },
    Make { maker: maker::Name, args: &'a [u8] },
    Run { callee: Callee, args: &'a [u8] },
    Name { object: Id, name: &'a str },
    Unname { name: &'a str },
    Find { maker: maker::Name, name: &'a str },
    Save,
}

/// A call of a method.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) object: Id,
    pub(crate) method: u16,
    pub(crate) args: &'a [u8],
}

/// Why a request has no result, or one call of a batch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Fault {
    /// The method panicked.
    Panicked(PanicInfo),
    /// A method has panicked before, with the object half changed maybe.
    Poisoned,
    /// There is no such object any more.
    Gone,
    /// Arguments or result can't be encoded or decoded.
    Data(String),
    /// The server can't do that, with the reason.
    Refused(String),
    /// The server has gone.
    Lost,
    /// There is no connection to the server, with the reason; nothing was executed.
    Unreachable(String),
    /// The connection has ended, and nobody knows whether the request was executed.
    Interrupted,
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoMethod(number) => Self::Refused(format!(
                "the server knows no method {number} of it: client and server are of different programs"
            )),
            Failure::Args(error) => Self::Data(format!("its arguments: {error}")),
            Failure::Result(error) => Self::Data(format!("its result: {error}")),
            Failure::Panicked(info) => Self::Panicked(info),
            Failure::Poisoned => Self::Poisoned,
            // Nobody will read it.
            Failure::Abandoned => Self::Lost,
        }
    }
}

/// Begins a call; the arguments follow.
pub(crate) fn call(out: &mut Vec<u8>, object: Id, method: u16) {
    out.push(CALL);
    out.extend_from_slice(&object.to_bits().to_le_bytes());
    out.extend_from_slice(&method.to_le_bytes());
}

/// Begins a batch; calls follow.
pub(crate) fn batch(out: &mut Vec<u8>) {
    out.push(BATCH);
}

/// Appends a call to a batch, unless its arguments can't be encoded.
pub(crate) fn batched<R>(
    out: &mut Vec<u8>,
    object: Id,
    method: u16,
    encode: impl FnOnce(&mut Vec<u8>) -> Result<R, codec::Error>,
) -> Result<R, codec::Error> {
    let start = out.len();
    out.extend_from_slice(&object.to_bits().to_le_bytes());
    out.extend_from_slice(&method.to_le_bytes());
    let encoded = with_length(out, encode);
    if encoded.is_err() {
        out.truncate(start);
    }
    encoded
}

/// Begins a constructor's call; the arguments follow.
pub(crate) fn construct(out: &mut Vec<u8>, class: u32, constructor: u16) {
    out.push(CONSTRUCT);
    out.extend_from_slice(&class.to_le_bytes());
    out.extend_from_slice(&constructor.to_le_bytes());
}

/// Begins the run of a callable in the server; the arguments follow.
pub(crate) fn run(out: &mut Vec<u8>, callee: Callee) {
    out.push(RUN);
    out.extend_from_slice(&callee.encode());
}

/// Begins the call of a maker; the arguments follow.
pub(crate) fn make(out: &mut Vec<u8>, maker: maker::Name) {
    out.push(MAKE);
    out.extend_from_slice(&maker.encode());
}

/// Asks for a public name for an object.
pub(crate) fn name(out: &mut Vec<u8>, object: Id, name: &str) {
    out.push(NAME);
    out.extend_from_slice(&object.to_bits().to_le_bytes());
    out.extend_from_slice(name.as_bytes());
}

/// Asks to take a public name back.
pub(crate) fn unname(out: &mut Vec<u8>, name: &str) {
    out.push(UNNAME);
    out.extend_from_slice(name.as_bytes());
}

/// Asks for the object with a public name.
pub(crate) fn find(out: &mut Vec<u8>, maker: maker::Name, name: &str) {
    out.push(FIND);
    out.extend_from_slice(&maker.encode());
    out.extend_from_slice(name.as_bytes());
}

/// Asks for a snapshot.
pub(crate) fn save(out: &mut Vec<u8>) {
    out.push(SAVE);
}

/// Appends the length of what `write` appends, and that.
fn with_length<R>(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    let result = write(out);
    // What is longer can't be sent in one message anyway; then the other side finds a breach.
    let length = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
    result
}

impl<'a> Request<'a> {
    /// From bytes, which may be anything.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Breach> {
        let mut rest = bytes;
        let [kind] = take(&mut rest)?;
        Ok(match kind {
            CALL => {
                let (object, method) = target(&mut rest)?;
                Self::Call(Call { object, method, args: rest })
            }
            BATCH => Self::Batch(Calls(rest)),
            CONSTRUCT => {
                let class = u32::from_le_bytes(take(&mut rest)?);
                let constructor = u16::from_le_bytes(take(&mut rest)?);
                Self::Construct { class, constructor, args: rest }
            }
            RUN => {
                let callee = Callee::decode(&take(&mut rest)?).ok_or(Breach)?;
                Self::Run { callee, args: rest }
            }
            MAKE => Self::Make { maker: maker::Name::decode(take(&mut rest)?), args: rest },
            NAME => {
                let object = object(&mut rest)?;
                Self::Name { object, name: text(rest)? }
            }
            UNNAME => Self::Unname { name: text(rest)? },
            FIND => {
                let maker = maker::Name::decode(take(&mut rest)?);
                Self::Find { maker, name: text(rest)? }
            }
            SAVE if rest.is_empty() => Self::Save,
            _ => return Err(Breach),
        })
    }
}

/// The calls of a batch that were not looked at yet.
#[derive(Debug)]
pub(crate) struct Calls<'a>(&'a [u8]);

impl<'a> Iterator for Calls<'a> {
    type Item = Result<Call<'a>, Breach>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let mut next = || {
            let (object, method) = target(&mut self.0)?;
            Ok(Call { object, method, args: piece(&mut self.0)? })
        };
        let call = next();
        if call.is_err() {
            self.0 = &[];
        }
        Some(call)
    }
}

/// Appends what came of a request: what `run` has appended, or its fault.
pub(crate) fn reply<R>(
    out: &mut Vec<u8>,
    run: impl FnOnce(&mut Vec<u8>) -> Result<R, Fault>,
) -> Option<R> {
    let start = out.len();
    out.push(DONE);
    match run(out) {
        Ok(result) => Some(result),
        Err(fault) => {
            out.truncate(start);
            out.push(FAILED);
            codec::encode(&fault, out).expect("texts and numbers can be encoded");
            None
        }
    }
}

/// Appends a constructor's own result; the object's handle follows.
pub(crate) fn constructed<R>(out: &mut Vec<u8>, run: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    with_length(out, run)
}

/// A constructor's own result, and the object's handle.
pub(crate) fn made(result: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let mut rest = result;
    let own = piece(&mut rest).map_err(|Breach| malformed())?;
    Ok((own, rest))
}

/// Begins the reply to a batch; what came of each call follows.
pub(crate) fn batch_reply(out: &mut Vec<u8>) {
    out.push(DONE);
}

/// Appends what came of one call of a batch.
pub(crate) fn batched_reply<R>(
    out: &mut Vec<u8>,
    run: impl FnOnce(&mut Vec<u8>) -> Result<R, Fault>,
) -> Option<R> {
    let start = out.len();
    out.push(DONE);
    match with_length(out, run) {
        Ok(result) => Some(result),
        Err(fault) => {
            out.truncate(start);
            out.push(FAILED);
            with_length(out, |out| codec::encode(&fault, out))
                .expect("texts and numbers can be encoded");
            None
        }
    }
}

/// The result in a reply, or the fault.
pub(crate) fn result(reply: &[u8]) -> Result<&[u8], Fault> {
    match reply.split_first() {
        Some((&DONE, result)) => Ok(result),
        Some((&FAILED, fault)) => Err(decoded(fault)),
        _ => Err(malformed()),
    }
}

/// The next result of a batch, or its fault; the result of the whole batch is `rest` at first.
pub(crate) fn next_result<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Fault> {
    let status = take(rest).and_then(|[status]| Ok((status, piece(rest)?)));
    match status {
        Ok((DONE, result)) => Ok(result),
        Ok((FAILED, fault)) => Err(decoded(fault)),
        _ => Err(malformed()),
    }
}

fn decoded(fault: &[u8]) -> Fault {
    codec::decode(fault).unwrap_or_else(|_| malformed())
}

fn malformed() -> Fault {
    Fault::Refused("the server has sent what is no reply".to_owned())
}

fn target(rest: &mut &[u8]) -> Result<(Id, u16), Breach> {
    Ok((object(rest)?, u16::from_le_bytes(take(rest)?)))
}

fn object(rest: &mut &[u8]) -> Result<Id, Breach> {
    Id::from_bits(u64::from_le_bytes(take(rest)?)).ok_or(Breach)
}

fn text(bytes: &[u8]) -> Result<&str, Breach> {
    std::str::from_utf8(bytes).map_err(|_| Breach)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Breach> {
    let (first, others) = rest.split_first_chunk().ok_or(Breach)?;
    *rest = others;
    Ok(*first)
}

/// Bytes behind their length.
fn piece<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Breach> {
    let length = u32::from_le_bytes(take(rest)?) as usize;
    let (piece, others) = rest.split_at_checked(length).ok_or(Breach)?;
    *rest = others;
    Ok(piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: Id = Id { index: 5, generation: 7 };

    #[test]
    fn a_call_is_what_was_asked_for() {
        let mut bytes = Vec::new();
        call(&mut bytes, OBJECT, 300);
        bytes.extend_from_slice(b"args");
        let Ok(Request::Call(call)) = Request::parse(&bytes) else { panic!("{bytes:?}") };
        assert_eq!((call.object, call.method, call.args), (OBJECT, 300, &b"args"[..]));
    }

    #[test]
    fn a_batch_has_its_calls_and_results_in_order() {
        let mut bytes = Vec::new();
        batch(&mut bytes);
        for method in 0..3 {
            batched(&mut bytes, OBJECT, method, |out| codec::encode(&method, out)).unwrap();
        }
        let Ok(Request::Batch(calls)) = Request::parse(&bytes) else { panic!("{bytes:?}") };
        let mut reply = Vec::new();
        batch_reply(&mut reply);
        for (number, call) in (0..).zip(calls) {
            let call = call.unwrap();
            assert_eq!((call.method, codec::decode(call.args).ok()), (number, Some(number)));
            batched_reply(&mut reply, |out| {
                out.extend_from_slice(b"unfinished");
                if number == 1 { Err(Fault::Poisoned) } else { Ok(()) }
            });
        }
        let mut rest = result(&reply).unwrap();
        assert_eq!(next_result(&mut rest), Ok(&b"unfinished"[..]));
        assert_eq!(next_result(&mut rest), Err(Fault::Poisoned));
        assert_eq!(next_result(&mut rest), Ok(&b"unfinished"[..]));
        assert!(rest.is_empty() && next_result(&mut rest).is_err());
    }

    #[test]
    fn a_fault_replaces_what_was_written() {
        let mut bytes = Vec::new();
        reply(&mut bytes, |out| {
            out.extend_from_slice(b"half");
            Err::<(), _>(Fault::Gone)
        });
        assert_eq!(result(&bytes), Err(Fault::Gone));
    }

    #[test]
    fn any_other_bytes_are_a_breach() {
        let mut whole = Vec::new();
        call(&mut whole, OBJECT, 1);
        for length in 0..whole.len() {
            assert!(Request::parse(&whole[..length]).is_err());
        }
        for kind in [0, 5, 255] {
            whole[0] = kind;
            assert!(Request::parse(&whole).is_err());
        }
        // No object has the generation 0.
        assert!(Request::parse(&[CALL; 11].map(|byte| byte & 1)).is_ok());
        assert!(Request::parse(&[[CALL].as_slice(), &[0; 10]].concat()).is_err());

        let mut bytes = Vec::new();
        batch(&mut bytes);
        batched(&mut bytes, OBJECT, 1, |out| codec::encode(&[1_u8; 9], out)).unwrap();
        for length in 2..bytes.len() {
            let Ok(Request::Batch(mut calls)) = Request::parse(&bytes[..length]) else { panic!() };
            assert!(calls.next().unwrap().is_err() && calls.next().is_none());
        }
        for reply in [&[][..], &[2], &[FAILED, 77]] {
            assert!(matches!(result(reply), Err(Fault::Refused(_))));
        }
    }
}
