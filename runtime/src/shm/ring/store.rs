//! What a ring stands on: the memory of its buffers, and the parcels that its messages name.

use std::io;
use std::sync::atomic::AtomicU8;

/// A message's large part, which lies in an object of its own and only travels by its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Parcel {
    pub(crate) id: u64,
    /// How many bytes it counts for where the ring's bytes are bounded.
    pub(crate) weight: u64,
}

/// The ring calls all of these under one of its locks: none may panic, wait for long, or use the ring.
pub(crate) trait Store {
    /// Buffer `k`, which has been made, as memory of this process: [`buffer_size`](super::buffer_size)
    /// bytes or more. Called for each message.
    fn buffer(&self, k: u32) -> io::Result<&[AtomicU8]>;

    /// Makes buffer `k`. It may exist already, when somebody was killed between making and using it.
    fn make(&self, k: u32) -> io::Result<()>;

    /// Gives buffer `k` back: nobody will look into it before it is made again. It may be gone
    /// already, when somebody was killed between giving it back and saying so.
    fn retire(&self, k: u32);

    /// From now on the parcel belongs to the message of this number, which is about to be put. The
    /// message is in the ring while its number is above [`Ring::gets`](super::Ring::gets).
    fn attach(&self, parcel: u64, number: u64);

    /// The message of this parcel is about to be got by this process, which needs its own hold on the
    /// parcel before it is in the ring no more. It may be killed in between: then another one adopts.
    fn adopt(&self, parcel: u64) -> io::Result<()>;

    /// A process was killed between attaching this parcel and putting its message: the message will
    /// never be there. Called again for the same parcel when the caller is killed as well.
    fn abandon(&self, parcel: u64);
}
