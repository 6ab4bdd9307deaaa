//! What is measured: the rows of the tables.

use crate::managed::Managed;
use crate::programs::Program;
use crate::schedule::Shape;

/// One kind of work that every peer does in its own way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Work {
    /// Start a process whose function is empty, and join it; one after the other.
    StartAndJoin,
    /// The same from a single-threaded server that forks on request.
    StartForked,
    /// What an idle worker has for itself alone.
    Memory,
    /// One call on a warm pool and its result, one after the other; the median of a round.
    Apply,
    /// The same after a pause in which everybody has gone to sleep.
    ApplyAsleep,
    /// Calls that are all submitted before the first result is asked for.
    ApplyAsync,
    /// What submitting them takes, without their results.
    Submit,
    /// `u64` to `u64` over a large input, the chunks left to the peer.
    Map,
    /// The same with one item a chunk.
    MapOneByOne,
    /// The same with 64 items a chunk.
    MapBySixtyFour,
    /// A map of a thousand tiny items; the median of a round.
    MapThousand,
    /// Blocks of bytes that go to a worker and come back.
    Blocks,
    /// One call with a block of 1 MiB and the block as its result; the median of a round.
    Bulk1,
    /// The same with 64 MiB.
    Bulk64,
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
    /// What it costs to hand a kilobyte over, without the way to another process.
    HandleSmall,
    /// The same for a gigabyte.
    Handle,
    /// Bytes that are put into shared memory, which is then opened a second time and given back.
    Share,
    /// Calls of a manager's objects.
    Managed(Managed),
    /// A map of tasks that all take so many nanoseconds.
    Length(u64),
    /// A map of tasks whose lengths differ.
    Uneven(Shape),
    /// A real program, from its input to its result.
    Program(Program),
}

/// What a figure counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Nanoseconds for one each.
    Time,
    /// Nanoseconds for so many bytes, there and back: shown as a rate.
    Rate(usize),
    /// Bytes.
    Memory,
    /// Nanoseconds for a whole map, whose ideal is known: shown as the part of it that is ideal.
    Efficiency,
    /// The same, shown as a multiple of the ideal.
    TimesIdeal,
}

/// The tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Section {
    /// Starting processes, and what one costs.
    Processes,
    /// One call, and many.
    Calls,
    /// Maps of tiny items.
    Maps,
    /// Large arguments and results.
    Bulk,
    /// What processes share and send each other.
    Between,
    /// What processes do to a manager's objects.
    Managers,
    /// The length of a task against the efficiency of a map.
    Lengths,
    /// Tasks of different lengths.
    Uneven,
    /// Real programs.
    Programs,
}

/// The bytes of a block.
pub(crate) const BLOCK: usize = 1 << 20;

/// The bytes of a large block.
pub(crate) const LARGE: usize = 64 << 20;

/// The items of [`Work::MapThousand`].
pub(crate) const THOUSAND: usize = 1_000;

/// The producers of [`Work::QueueCrowd`], and the consumers.
pub(crate) const CROWD: u64 = 4;

/// The lengths of tasks, in nanoseconds: three a decade, from a microsecond to a tenth of a second.
pub(crate) const LENGTHS: [u64; 11] = [
    1_000,
    3_000,
    10_000,
    30_000,
    100_000,
    300_000,
    1_000_000,
    3_000_000,
    10_000_000,
    30_000_000,
    100_000_000,
];

impl Section {
    /// All tables, in their order.
    pub const ALL: [Self; 9] = [
        Self::Processes,
        Self::Calls,
        Self::Maps,
        Self::Bulk,
        Self::Between,
        Self::Managers,
        Self::Lengths,
        Self::Uneven,
        Self::Programs,
    ];

    /// The head of the table.
    pub fn title(self) -> &'static str {
        match self {
            Self::Processes => "starting a process",
            Self::Calls => "calls",
            Self::Maps => "maps of tiny items",
            Self::Bulk => "large arguments and results",
            Self::Between => "between processes",
            Self::Managers => "managers",
            Self::Lengths => "efficiency of a map, by the length of a task",
            Self::Uneven => "tasks of different lengths, beside the ideal",
            Self::Programs => "programs",
        }
    }
}

impl Work {
    /// All rows, in the order of the tables.
    pub fn all() -> Vec<Self> {
        let mut all = vec![
            Self::StartAndJoin,
            Self::StartForked,
            Self::Memory,
            Self::Apply,
            Self::ApplyAsleep,
            Self::ApplyAsync,
            Self::Submit,
            Self::Map,
            Self::MapOneByOne,
            Self::MapBySixtyFour,
            Self::MapThousand,
            Self::Blocks,
            Self::Bulk1,
            Self::Bulk64,
            Self::Queue,
            Self::QueueBlocks,
            Self::QueueCrowd,
            Self::Pipe,
            Self::Lock,
            Self::LockContended,
            Self::Value,
            Self::SliceSmall,
            Self::SliceLarge,
            Self::HandleSmall,
            Self::Handle,
            Self::Share,
        ];
        all.extend(Managed::all().into_iter().map(Self::Managed));
        all.extend(LENGTHS.map(Self::Length));
        all.extend(Shape::ALL.map(Self::Uneven));
        all.extend(Program::ALL.map(Self::Program));
        all
    }

    /// The row's name and the unit of what is counted.
    pub fn title(self) -> &'static str {
        match self {
            Self::StartAndJoin => "start and join a process",
            Self::StartForked => "start and join, fork server",
            Self::Memory => "private memory of an idle worker",
            Self::Apply => "apply, warm, p50",
            Self::ApplyAsleep => "apply, asleep, p50",
            Self::ApplyAsync => "apply_async, all at once, a task",
            Self::Submit => "apply_async, submitting, a task",
            Self::Map => "map, default chunks, an item",
            Self::MapOneByOne => "map, chunksize 1, an item",
            Self::MapBySixtyFour => "map, chunksize 64, an item",
            Self::MapThousand => "map of 1000 tiny items, p50",
            Self::Blocks => "map of 1 MiB blocks, there and back",
            Self::Bulk1 => "apply, 1 MiB there and back, p50",
            Self::Bulk64 => "apply, 64 MiB there and back, p50",
            Self::Queue => "queue, 1 to 1, an integer",
            Self::QueueBlocks => "queue, 1 to 1, 1 MiB blocks",
            Self::QueueCrowd => "queue, 4 to 4, an integer",
            Self::Pipe => "pipe, there and back, p50",
            Self::Lock => "lock and unlock, alone",
            Self::LockContended => "lock and unlock, two at once",
            Self::Value => "shared value, an update",
            Self::SliceSmall => "apply, a 1 KiB slice and back, p50",
            Self::SliceLarge => "apply, a 1 GiB slice and back, p50",
            Self::HandleSmall => "a 1 KiB slice, put and got",
            Self::Handle => "a 1 GiB slice, put and got",
            Self::Share => "share 1 MiB, open it, give it back",
            Self::Managed(managed) => managed.title(),
            Self::Length(1_000) => "tasks of 1 µs",
            Self::Length(3_000) => "tasks of 3 µs",
            Self::Length(10_000) => "tasks of 10 µs",
            Self::Length(30_000) => "tasks of 30 µs",
            Self::Length(100_000) => "tasks of 100 µs",
            Self::Length(300_000) => "tasks of 300 µs",
            Self::Length(1_000_000) => "tasks of 1 ms",
            Self::Length(3_000_000) => "tasks of 3 ms",
            Self::Length(10_000_000) => "tasks of 10 ms",
            Self::Length(30_000_000) => "tasks of 30 ms",
            Self::Length(_) => "tasks of 100 ms",
            Self::Uneven(shape) => shape.title(),
            Self::Program(program) => program.title(),
        }
    }

    /// What peers in another process and another language call it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::StartAndJoin => "start_and_join",
            Self::StartForked => "start_forked",
            Self::Memory => "worker_pid",
            Self::Apply => "apply",
            Self::ApplyAsleep => "apply_asleep",
            Self::ApplyAsync => "apply_async",
            Self::Submit => "submit",
            Self::Map => "map",
            Self::MapOneByOne => "map_one_by_one",
            Self::MapBySixtyFour => "map_by_sixty_four",
            Self::MapThousand => "map_thousand",
            Self::Blocks => "blocks",
            Self::Bulk1 => "bulk_1",
            Self::Bulk64 => "bulk_64",
            Self::Queue => "queue",
            Self::QueueBlocks => "queue_blocks",
            Self::QueueCrowd => "queue_crowd",
            Self::Pipe => "pipe",
            Self::Lock => "lock",
            Self::LockContended => "lock_contended",
            Self::Value => "value",
            Self::SliceSmall => "slice_small",
            Self::SliceLarge => "slice_large",
            Self::HandleSmall => "handle_small",
            Self::Handle => "handle",
            Self::Share => "share",
            Self::Managed(managed) => managed.word(),
            Self::Length(_) | Self::Uneven(_) => "spin",
            Self::Program(program) => program.word(),
        }
    }

    /// The table that the row is in.
    pub fn section(self) -> Section {
        match self {
            Self::StartAndJoin | Self::StartForked | Self::Memory => Section::Processes,
            Self::Apply | Self::ApplyAsleep | Self::ApplyAsync | Self::Submit => Section::Calls,
            Self::Map | Self::MapOneByOne | Self::MapBySixtyFour | Self::MapThousand => {
                Section::Maps
            }
            Self::Blocks | Self::Bulk1 | Self::Bulk64 => Section::Bulk,
            Self::Managed(_) => Section::Managers,
            Self::Length(_) => Section::Lengths,
            Self::Uneven(_) => Section::Uneven,
            Self::Program(_) => Section::Programs,
            _ => Section::Between,
        }
    }

    /// Whether it is about workers that have just done the same, with what they read in the system's cache.
    pub(crate) fn is_of_warm_workers(self) -> bool {
        match self {
            Self::ApplyAsleep | Self::Managed(Managed::StartAndStop) => false,
            _ => matches!(
                self.section(),
                Section::Calls
                    | Section::Maps
                    | Section::Bulk
                    | Section::Managers
                    | Section::Programs
            ),
        }
    }

    /// What its figure counts.
    pub fn unit(self) -> Unit {
        match self {
            Self::Blocks | Self::QueueBlocks | Self::Bulk1 => Unit::Rate(BLOCK),
            Self::Bulk64 => Unit::Rate(LARGE),
            Self::Memory => Unit::Memory,
            Self::Length(_) => Unit::Efficiency,
            Self::Uneven(_) => Unit::TimesIdeal,
            _ => Unit::Time,
        }
    }

    /// How many of them a round does. A slow peer does fewer, which is why figures are for one each.
    pub(crate) fn count(self, speed: Speed) -> usize {
        let (fast, slow) = match self {
            Self::StartAndJoin | Self::StartForked => (20, 4),
            Self::Apply => (500, 200),
            Self::ApplyAsleep => (40, 40),
            Self::Map => (1_000_000, 1_000),
            Self::MapOneByOne | Self::ApplyAsync | Self::Submit => (100_000, 10_000),
            Self::MapBySixtyFour => (1_000_000, 20_000),
            Self::MapThousand => (100, 5),
            Self::Blocks => (256, 64),
            Self::Bulk1 => (50, 20),
            Self::Bulk64 => (5, 1),
            Self::Queue => (500_000, 20_000),
            Self::QueueBlocks => (256, 64),
            Self::QueueCrowd => (2_000_000, 20_000),
            Self::Pipe => (2_000, 1_000),
            Self::Lock | Self::LockContended | Self::Value => (1_000_000, 50_000),
            Self::SliceSmall | Self::SliceLarge => (500, 200),
            Self::HandleSmall | Self::Handle => (100_000, 10_000),
            Self::Share => (100, 50),
            Self::Managed(managed) => managed.counts(),
            Self::Memory | Self::Length(_) | Self::Uneven(_) | Self::Program(_) => (1, 1),
        };
        match speed {
            Speed::Fast => fast,
            Speed::Slow => slow,
            Speed::VerySlow => slow.min(1_000),
            Speed::Tried if self == Self::Bulk64 => 1,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own() {
        let mut titles: Vec<_> = Work::all().into_iter().map(Work::title).collect();
        titles.sort_unstable();
        let rows = titles.len();
        titles.dedup();
        assert_eq!(titles.len(), rows);
    }

    #[test]
    fn only_what_is_about_sleep_is_timed_cold_among_calls() {
        assert!(Work::Apply.is_of_warm_workers());
        // Otherwise who is first reads the files for all.
        assert!(Work::Program(Program::HashTree).is_of_warm_workers());
        assert!(!Work::ApplyAsleep.is_of_warm_workers());
        assert!(!Work::StartAndJoin.is_of_warm_workers());
    }

    #[test]
    fn every_row_is_in_a_table_and_every_table_has_rows() {
        for section in Section::ALL {
            assert!(Work::all().iter().any(|work| work.section() == section), "{section:?}");
        }
    }
}
