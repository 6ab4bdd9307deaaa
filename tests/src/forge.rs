//! What tasks need to write to the stream, the page and the shared memory of their own worker, behind the
//! runtime's back: what no worker does, and what a parent must not trust.
//!
//! The places of things are written down here as the runtime lays them out; tests that use them check that
//! they are still there.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]
#![expect(unsafe_code, reason = "tasks write to memory and a descriptor that are the runtime's")]

use std::fs;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// The kinds of frames, as they are on the wire: see `transport/frame.rs`.
#[expect(missing_docs, reason = "their names are those in frame.rs")]
pub mod kind {
    pub const TASKS: u8 = 2;
    pub const EXIT: u8 = 5;
    pub const READY: u8 = 64;
    pub const REFUSED: u8 = 65;
    pub const INIT_DONE: u8 = 66;
    pub const INIT_FAILED: u8 = 67;
    pub const VALUE: u8 = 68;
    pub const PANICKED: u8 = 69;
    pub const SPENT: u8 = 72;
    pub const PARCEL: u8 = 73;
    pub const VALUES: u8 = 74;
    pub const APART: u8 = 75;
    pub const LEFT: u8 = 76;
    pub const MORE: u8 = 77;
}

/// The places of words in a worker's page: see `shm/page.rs`.
pub mod place {
    /// Which item that was sent has been begun: see `shm/claim.rs`.
    pub const CLAIM: usize = 0;
    /// When it was.
    pub const CLAIM_SINCE: usize = 16;
    /// How often bound arguments have been decoded or dropped.
    pub const PREPARED: usize = 24;
    /// The words of the rings, and who sleeps.
    pub const LINES: usize = 2304;
    /// How many bytes the worker has taken from the ring to it.
    pub const DOWN_HEAD: usize = LINES + 128;
    /// How many bytes the worker has published in its own.
    pub const TAIL: usize = LINES + 256;
    /// What the worker has in hand of the work on boards: see `shm/hand.rs`.
    pub const HAND: usize = LINES + 896;
    /// Which item of its range the worker has begun.
    pub const BEGUN: usize = HAND;
    /// How many bytes of results it has written and not published.
    pub const FILLED: usize = HAND + 8;
    /// When the item that `TIMED` names has begun.
    pub const SINCE: usize = HAND + 16;
    /// The item whose start is told.
    pub const TIMED: usize = HAND + 24;
    /// The number of the work.
    pub const WORK: usize = HAND + 32;
    /// The first item of the range, and in the upper half the phase.
    pub const START: usize = HAND + 40;
    /// How many items of the range are the worker's.
    pub const LIMIT: usize = HAND + 128;
    /// The count of the parent's decisions, and in the upper half whether the worker is condemned.
    pub const CUTS: usize = HAND + 136;
    /// All words of a hand.
    pub const WORDS_OF_HAND: [usize; 8] = [BEGUN, FILLED, SINCE, TIMED, WORK, START, LIMIT, CUTS];
}

/// The phase of a hand that holds a range, as it stands in the word at [`place::START`].
pub const HOLDING: u64 = 2 << 32;

/// A frame with a body that may be another length than it claims.
pub fn frame(kind: u8, number: u32, length: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// A tiny result.
pub fn small(number: u32, result: &[u8]) -> Vec<u8> {
    let mut bytes = (number << 8).to_le_bytes().to_vec();
    bytes[0] = 128 | result.len() as u8;
    bytes.extend_from_slice(result);
    bytes
}

/// Whether this run is of the transport without rings.
pub fn uses_sockets() -> bool {
    std::env::var_os("PROCESSION_TRANSPORT").is_some_and(|name| name == "socket")
}

/// Adds to the worker's stream, and tells the parent that there is something.
pub fn inject(bytes: &[u8]) {
    if uses_sockets() {
        return inject_into_the_socket(bytes);
    }
    append(bytes);
    inject_into_the_socket(&[0]);
}

/// Writes to the worker's socket.
pub fn inject_into_the_socket(bytes: &[u8]) {
    let socket = fs::read_dir("/proc/self/fd").unwrap().flatten().find(|entry| {
        fs::read_link(entry.path())
            .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    });
    let number = socket.unwrap().file_name().to_str().unwrap().parse().unwrap();
    // SAFETY: the worker's socket stays open as long as the process lives.
    let socket = unsafe { BorrowedFd::borrow_raw(number) };
    let mut rest = bytes;
    while !rest.is_empty() {
        rest = &rest[nix::unistd::write(socket, rest).unwrap()..];
    }
}

/// A mapping of this process: where it lies, and which part of its file it shows.
struct Mapping {
    addresses: Range<usize>,
    offset: u64,
}

/// The mappings of a file in memory that may be written.
fn mappings(name: &str) -> Vec<Mapping> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let lines = maps.lines().filter(|line| line.ends_with(&format!("memfd:{name} (deleted)")));
    let parsed = lines.filter(|line| line.contains(" rw-s ")).map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let (start, end) = fields[0].split_once('-').unwrap();
        let addresses = number(start) as usize..number(end) as usize;
        Mapping { addresses, offset: number(fields[2]) }
    });
    parsed.collect()
}

/// Where a part of the page's file is mapped.
fn address(offset: usize) -> usize {
    let found = mappings("procession").into_iter().find(|part| part.offset == offset as u64);
    found.unwrap().addresses.start
}

fn word_at(address: usize) -> &'static AtomicU64 {
    assert!(address.is_multiple_of(8));
    let at = std::ptr::with_exposed_provenance::<AtomicU64>(address);
    // SAFETY: it is aligned and, as those who call this have just found in `/proc/self/maps`, in shared
    // memory that stays mapped while the task runs, which everybody treats as atomics.
    unsafe { &*at }
}

/// A word of the worker's page.
pub fn word(offset: usize) -> &'static AtomicU64 {
    word_at(address(0) + offset)
}

/// Writes behind the tail of the ring from worker to parent, and moves it.
fn append(bytes: &[u8]) {
    const CAPACITY: usize = 1 << 20;
    const UP_AT: usize = (128 << 10) + CAPACITY;
    const ORIGIN: usize = place::TAIL + 8;

    let (tail, origin) = (word(place::TAIL), word(ORIGIN));
    let first = tail.load(Ordering::Relaxed);
    let start = address(UP_AT);
    for (position, byte) in (first..).zip(bytes) {
        let place = position.wrapping_sub(origin.load(Ordering::Relaxed)) as usize % CAPACITY;
        let at = std::ptr::with_exposed_provenance::<AtomicU8>(start + place);
        // SAFETY: the ring stays mapped as long as the worker lives; its bytes are atomics.
        unsafe { &*at }.store(*byte, Ordering::Relaxed);
    }
    tail.store(first + bytes.len() as u64, Ordering::Release);
}

/// The arena that has this number at a place, counted in words. The first word is the board's own, the
/// inputs begin with the one at [`INPUTS`]. None: this worker has none such mapped, as it takes no part.
pub fn arena(place: usize, number: u64) -> Option<&'static [AtomicU64]> {
    const BLOCKS_AT: u64 = 1 << 46;
    const SMALLEST: usize = 64 << 10;

    let blocks = mappings("procession-heap").into_iter().filter(|part| part.offset >= BLOCKS_AT);
    let mut starts = blocks.flat_map(|part| part.addresses.step_by(SMALLEST));
    let start =
        starts.find(|start| word_at(start + 8 * place).load(Ordering::Relaxed) == number)?;
    let words = std::ptr::with_exposed_provenance::<AtomicU64>(start);
    // SAFETY: as in `word_at`, for all words of the smallest arena there is.
    Some(unsafe { std::slice::from_raw_parts(words, SMALLEST / 8) })
}

/// Where the inputs begin in an arena, in words.
pub const INPUTS: usize = 16;
