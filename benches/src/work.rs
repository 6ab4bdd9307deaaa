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
}

/// The bytes of one block of [`Work::Blocks`].
pub(crate) const BLOCK: usize = 1 << 20;

impl Work {
    /// All rows, in the order of the table.
    pub const ALL: [Self; 6] = [
        Self::StartAndJoin,
        Self::Apply,
        Self::Map,
        Self::MapOneByOne,
        Self::ApplyAsync,
        Self::Blocks,
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
        }
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
        };
        match speed {
            Speed::Fast => fast,
            Speed::Slow => slow,
            Speed::VerySlow => slow.min(1_000),
            Speed::Tried => fast.min(20),
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
