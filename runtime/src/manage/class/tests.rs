//! A managed type as `#[managed]` would write it, called as the server calls it.

#![expect(unsafe_code, reason = "linkme's attribute needs it; there is no unsafe block")]

use std::sync::mpsc;
use std::thread;

use super::*;
use crate::manage::call::{call_0, call_1};
use crate::manage::registry::{self, Constructor, Entry, PROCESSION_0_1_MANAGED};

struct Counter {
    value: u64,
}

/// What has a handle in it.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Parcel(heap::Object);

/// What can be sent, but not be received.
#[derive(serde::Serialize)]
struct Odd;

impl<'de> serde::Deserialize<'de> for Odd {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("it is odd")
    }
}

const NEW: Call<Counter, (u64,), ()> = call_1::<Counter, u64, ()>(0, "new");
const PARSE: Call<Counter, (String,), Result<(), String>> =
    call_1::<Counter, String, Result<(), String>>(1, "parse");
const ADD: Call<Counter, (u64,), u64> = call_1::<Counter, u64, u64>(0, "add");
const GET: Call<Counter, (), u64> = call_0::<Counter, u64>(1, "get");
const ECHO: Call<Counter, (Parcel,), Parcel> = call_1::<Counter, Parcel, Parcel>(2, "echo");
const ODD: Call<Counter, (Odd,), ()> = call_1::<Counter, Odd, ()>(3, "odd");
const LOOK: Call<Counter, (bool,), ()> = call_1::<Counter, bool, ()>(4, "look");

impl Managed for Counter {
    type Proxy = ();

    const CLASS: Class<Self> = Class::new(
        "tests::Counter",
        &[
            Method::new("add", "fn(&mut self, u64) -> u64", |slot, invocation| {
                slot.exclusive(ADD, invocation, |this, (n,)| {
                    this.value = this.value.checked_add(n).expect("it is too much");
                    this.value
                })
            }),
            Method::new("get", "fn(&self) -> u64", |slot, invocation| {
                slot.shared(GET, invocation, |this, ()| this.value)
            }),
            Method::new("echo", "fn(&mut self, Parcel) -> Parcel", |slot, invocation| {
                slot.exclusive(ECHO, invocation, |_, (parcel,)| parcel)
            }),
            Method::new("odd", "fn(&mut self, Odd)", |slot, invocation| {
                slot.exclusive(ODD, invocation, |_, (_,)| ())
            }),
            Method::new("look", "fn(&self, bool)", |slot, invocation| {
                slot.shared(LOOK, invocation, |_, (panics,)| assert!(!panics, "it must not"))
            }),
        ],
    );
}

#[linkme::distributed_slice(PROCESSION_0_1_MANAGED)]
static ENTRY: Entry = Entry::new::<Counter>(
    "tests::Counter",
    file!(),
    line!(),
    column!(),
    &[
        Constructor::new("new", "fn(u64) -> Self", |invocation| {
            invocation.make(NEW, |(value,)| Counter { value })
        }),
        Constructor::new("parse", "fn(String) -> Result<Self, String>", |invocation| {
            invocation.try_make(PARSE, |(text,)| match text.parse() {
                Ok(value) => Ok(Counter { value }),
                Err(error) => Err(format!("{text}: {error}")),
            })
        }),
    ],
);

fn slot(value: u64) -> Slot<Counter> {
    Slot::new(Counter { value })
}

/// Calls as a client would, through the bytes.
fn call<A, R>(object: &dyn Object, call: Call<Counter, A, R>, args: A) -> Result<R, Failure> {
    let (mut bytes, mut reply) = (Vec::new(), Vec::new());
    let _sent = call.encode_args(&args, &mut bytes).unwrap();
    let mut invocation = Invocation::new(&bytes, &mut reply);
    let called = object.call(call.number(), &mut invocation);
    let _held = invocation.into_held();
    if called.is_err() {
        assert!(reply.is_empty(), "a failure leaves no bytes");
    }
    called.map(|()| call.decode_result(&reply).unwrap())
}

#[test]
fn methods_are_called_by_number() {
    let object: &dyn Object = &slot(5);
    assert_eq!(call(object, ADD, (3,)).unwrap(), 8);
    assert_eq!(call(object, GET, ()).unwrap(), 8);
    let class = format!("{:?}", Counter::CLASS);
    assert!(class.contains("tests::Counter") && class.contains("get fn(&self) -> u64"), "{class}");
}

#[test]
fn shared_methods_run_side_by_side_and_exclusive_ones_alone() {
    let slot = slot(1);
    // Both guards at once: neither call could end if one shut the other out.
    let outer = slot.read().unwrap();
    assert_eq!(call(&slot, GET, ()).unwrap(), 1);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        let slot = &slot;
        scope.spawn(move || {
            let added = call(slot, ADD, (1,)).unwrap();
            sender.send(added).unwrap();
        });
        assert!(receiver.try_recv().is_err(), "it waits for the reader");
        assert_eq!(outer.value, 1);
        drop(outer);
        assert_eq!(receiver.recv().unwrap(), 2);
    });
}

#[test]
fn a_panic_poisons_until_it_is_cleared() {
    let object: &dyn Object = &slot(u64::MAX);
    let Err(Failure::Panicked(info)) = call(object, ADD, (1,)) else { panic!("it panics") };
    assert!(info.message().contains("it is too much"), "{info:?}");
    assert!(object.is_poisoned());
    assert!(matches!(call(object, GET, ()), Err(Failure::Poisoned)));
    assert!(matches!(call(object, ADD, (0,)), Err(Failure::Poisoned)));
    object.clear_poison();
    assert_eq!(call(object, GET, ()).unwrap(), u64::MAX);
}

#[test]
fn a_panic_of_a_shared_method_poisons_nothing() {
    let object: &dyn Object = &slot(1);
    assert!(matches!(call(object, LOOK, (true,)), Err(Failure::Panicked(_))));
    assert!(!object.is_poisoned());
    call(object, LOOK, (false,)).unwrap();
}

#[test]
fn arguments_that_panic_poison_nothing() {
    let object: &dyn Object = &slot(1);
    let Err(Failure::Panicked(info)) = call(object, ODD, (Odd,)) else { panic!("it panics") };
    assert!(info.message().contains("it is odd"), "{info:?}");
    assert!(!object.is_poisoned());
}

#[test]
fn numbers_and_bytes_are_checked() {
    let slot = slot(1);
    let mut reply = Vec::new();
    let failure = slot.call(5, &mut Invocation::new(&[], &mut reply));
    assert!(matches!(failure, Err(Failure::NoMethod(5))), "{failure:?}");
    for bytes in [&[][..], &[0x80], &[1, 1], &[0xff; 12]] {
        let failure = slot.call(ADD.number(), &mut Invocation::new(bytes, &mut reply));
        assert!(matches!(failure, Err(Failure::Args(_))), "{failure:?}");
    }
    assert!(reply.is_empty());
    assert!(!slot.is_poisoned());
    assert_eq!(slot.read().unwrap().value, 1);
}

#[test]
fn handles_travel_in_arguments_and_results() {
    let object = heap::Object::create(heap::Request::small(heap::Kind::Event)).unwrap();
    let echoed = call(&slot(0), ECHO, (Parcel(object.clone()),)).unwrap();
    assert!(echoed.0.is_same(&object));
}

#[test]
fn constructors_make_objects() {
    let index = registry::index_of::<Counter>().unwrap();
    let entry = registry::entry(index).unwrap();
    let text = format!("{entry:?}");
    for part in ["tests::Counter", "tests.rs:", "new fn(u64) -> Self"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(registry::entry(u32::MAX).is_none());

    let construct = |number, args: &[u8]| {
        let mut reply = Vec::new();
        let made = entry.construct(number, &mut Invocation::new(args, &mut reply));
        (made, reply)
    };
    let mut args = Vec::new();
    NEW.encode_args(&(7,), &mut args).unwrap();
    let (made, reply) = construct(NEW.number(), &args);
    assert!(reply.is_empty(), "`()` is no bytes");
    assert_eq!(call(&*made.unwrap().unwrap().object, GET, ()).unwrap(), 7);

    for (text, is_good) in [("12", true), ("x", false)] {
        let mut args = Vec::new();
        PARSE.encode_args(&(text.to_owned(),), &mut args).unwrap();
        let (made, reply) = construct(PARSE.number(), &args);
        assert_eq!(made.unwrap().is_some(), is_good);
        assert_eq!(PARSE.decode_result(&reply).unwrap().is_ok(), is_good);
    }
    assert!(matches!(construct(2, &[]).0, Err(Failure::NoMethod(2))));
    assert!(matches!(construct(0, &[]).0, Err(Failure::Args(_))));
}
