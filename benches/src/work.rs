//! What is measured: the rows of the table.

/// One kind of work that every peer does in its own way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Work {
    /// Start a process whose function is empty, and join it; one after the other.
    StartAndJoin,
    /// One call on a warm pool and its result, one after the other; the median of a round.
    Apply,
    /// `u64` to `u64` over a large input, the chunks left to the peer.
    Map,
    /// The same with one item a chunk.
    MapOneByOne,
    /// Calls that are all submitted before the first result is asked for.
    ApplyAsync,
    /// Blocks of bytes that go to a worker and come back.
    Blocks,
    /// Integers from one process to another, as many as there are.
    Queue,
    /// Blocks of bytes from one process to another.
    QueueBlocks,
    /// Integers from four to four, of which none may be lost: ten million and more in all rounds.
    QueueCrowd,
    /// An integer to another process and one back; the median of a round.
    Pipe,
    /// A lock that nobody else wants.
    Lock,
    /// A lock that two want all the time, to count to a number.
    LockContended,
    /// A change of a value that others may change, too, and don't.
    Value,
    /// A call with a small shared slice as its argument and its result; the median of a round.
    SliceSmall,
    /// The same with a large one.
    SliceLarge,
    /// What it costs to hand a gigabyte over, without the way to another process.
    Handle,
    /// Bytes that are put into shared memory, which is then opened a second time and given back.
    Share,
}

/// The bytes of a block.
pub(crate) const BLOCK: usize = 1 << 20;

/// The producers of [`Work::QueueCrowd`], and the consumers.
pub(crate) const CROWD: u64 = 4;

impl Work {
    /// All rows, in the order of the table.
    pub const ALL: [Self; 17] = [
        Self::StartAndJoin,
        Self::Apply,
        Self::Map,
        Self::MapOneByOne,
        Self::ApplyAsync,
        Self::Blocks,
        Self::Queue,
        Self::QueueBlocks,
        Self::QueueCrowd,
        Self::Pipe,
        Self::Lock,
        Self::LockContended,
        Self::Value,
        Self::SliceSmall,
        Self::SliceLarge,
        Self::Handle,
        Self::Share,
    ];

    /// The row's name and the unit of what is counted.
    pub fn title(self) -> &'static str {
        match self {
            Self::StartAndJoin => "start and join a process",
            Self::Apply => "apply, warm, p50",
            Self::Map => "map, default chunks, an item",
            Self::MapOneByOne => "map, chunksize 1, an item",
            Self::ApplyAsync => "apply_async, all at once, a task",
            Self::Blocks => "map of 1 MiB blocks, there and back",
            Self::Queue => "queue, 1 to 1, an integer",
            Self::QueueBlocks => "queue, 1 to 1, 1 MiB blocks",
            Self::QueueCrowd => "queue, 4 to 4, an integer",
            Self::Pipe => "pipe, there and back, p50",
            Self::Lock => "lock and unlock, alone",
            Self::LockContended => "lock and unlock, two at once",
            Self::Value => "shared value, an update",
            Self::SliceSmall => "apply, a 1 KiB slice and back, p50",
            Self::SliceLarge => "apply, a 1 GiB slice and back, p50",
            Self::Handle => "a 1 GiB slice, put and got",
            Self::Share => "share 1 MiB, open it, give it back",
        }
    }

    /// Whether it is about what processes share and send each other; otherwise it is about calls.
    pub fn is_between_processes(self) -> bool {
        !matches!(
            self,
            Self::StartAndJoin
                | Self::Apply
                | Self::Map
                | Self::MapOneByOne
                | Self::ApplyAsync
                | Self::Blocks
        )
    }

    /// Whether blocks are counted, so that the figure is a rate of bytes.
    pub(crate) fn is_of_blocks(self) -> bool {
        matches!(self, Self::Blocks | Self::QueueBlocks)
    }

    /// How many of them a round does. A slow peer does fewer, which is why figures are for one each.
    pub(crate) fn count(self, speed: Speed) -> usize {
        let (fast, slow) = match self {
            Self::StartAndJoin => (20, 4),
            Self::Apply => (500, 200),
            Self::Map => (100_000, 1_000),
            Self::MapOneByOne => (100_000, 10_000),
            Self::ApplyAsync => (100_000, 10_000),
            Self::Blocks => (256, 64),
            Self::Queue => (500_000, 20_000),
            Self::QueueBlocks => (256, 64),
            Self::QueueCrowd => (2_000_000, 20_000),
            Self::Pipe => (2_000, 1_000),
            Self::Lock | Self::LockContended | Self::Value => (1_000_000, 50_000),
            Self::SliceSmall | Self::SliceLarge => (500, 200),
            Self::Handle => (100_000, 10_000),
            Self::Share => (100, 50),
        };
        match speed {
            Speed::Fast => fast,
            Speed::Slow => slow,
            Speed::VerySlow => slow.min(1_000),
            Speed::Tried => slow.min(20),
        }
    }
}

/// How much work a peer is given in a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Speed {
    /// The full count.
    Fast,
    /// A count that takes a peer well below a second at 20 µs an item.
    Slow,
    /// The same at 200 µs an item.
    VerySlow,
    /// So little that the run only shows that everything works.
    Tried,
}
