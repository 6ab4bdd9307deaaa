//! What the system limits for a worker: that each limit holds, what is said when it is broken, and that the
//! pool goes on.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]
#![expect(unsafe_code, reason = "tasks ignore the signals that limits send")]

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use procession::{
    Cause, Error, Limit, Limits, Pool, Process, SharedArray, StartMethod, current_process, task,
};
use procession_tests::scratch::Scratch;
use procession_tests::{alone, alone_with_server, wait_until};

const METHODS: [StartMethod; 2] = [StartMethod::Spawn, StartMethod::ForkServer];
const MIB: u64 = 1 << 20;

/// Runs a test with a pool of each kind.
fn with_pools(limits: &Limits, test: impl Fn(&Pool)) {
    alone(|| {
        for method in METHODS {
            let pool = Pool::builder().processes(2).start_method(method);
            test(&pool.limits(limits.clone()).build().unwrap());
        }
    });
}

#[task]
fn add(x: u64, y: u64) -> u64 {
    x + y
}

fn works(pool: &Pool) {
    let sums = pool.starmap(add, (0..100).map(|x| (x, 1))).unwrap();
    assert!(sums.into_iter().eq(1..101));
}

#[task]
fn compute_for_ever() {
    loop {
        std::hint::black_box(0);
    }
}

/// On two threads, or with the signal ignored.
#[task]
fn compute(stubbornly: bool) {
    if stubbornly {
        ignore(libc::SIGXCPU);
    } else {
        std::thread::spawn(compute_for_ever);
    }
    compute_for_ever();
}

fn ignore(signal: i32) {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

    let action = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler runs.
    unsafe { sigaction(Signal::try_from(signal).unwrap(), &action) }.unwrap();
}

#[track_caller]
fn is_over(error: &Error, limit: Limit, value: u64) {
    let breach = error.limit().unwrap_or_else(|| panic!("no limit is named: {error}"));
    assert_eq!((breach.limit(), breach.value()), (limit, value), "{error}");
    assert!(breach.used().is_none_or(|used| used >= value), "{error}");
    assert_eq!(error.lost().unwrap().cause(), Cause::Limit(breach));
    assert!(error.is_worker_lost() && error.to_string().contains(&breach.to_string()));
}

#[test]
fn time_of_processors_is_limited() {
    with_pools(&Limits::new().cpu_time(Duration::from_millis(900)), |pool| {
        for stubbornly in [false, true] {
            let error = pool.apply(compute, (stubbornly,)).unwrap_err();
            is_over(&error, Limit::CpuTime, 1_000_000_000);
            // The kernel counts by samples for the limit, and exactly for this.
            let usage = error.lost().unwrap().usage();
            assert!(
                usage.user_time() + usage.system_time() >= Duration::from_millis(500),
                "{usage:?}"
            );
        }
        works(pool);
    });
}

#[task]
fn write(file: String, bytes: u64) -> u64 {
    fs::write(file, vec![1; bytes as usize]).unwrap();
    bytes
}

/// With the signal ignored, the call says it.
#[task]
fn write_boldly(file: String, bytes: u64) -> Option<i32> {
    ignore(libc::SIGXFSZ);
    let mut file = fs::File::create(file).unwrap();
    file.write_all(&vec![1; bytes as usize]).err().and_then(|error| error.raw_os_error())
}

#[test]
fn the_length_of_files_is_limited() {
    with_pools(&Limits::new().file_size(MIB).core_size(0), |pool| {
        let scratch = Scratch::new();
        let file = scratch.path("file");
        assert_eq!(pool.apply(write, (file.clone(), MIB)).unwrap(), MIB);
        let error = pool.apply(write, (file.clone(), MIB + 1)).unwrap_err();
        is_over(&error, Limit::FileSize, MIB);
        assert_eq!(fs::metadata(&file).unwrap().len(), MIB);
        assert_eq!(pool.apply(write_boldly, (file, MIB + 1)).unwrap(), Some(libc::EFBIG));
        works(pool);
    });
}

#[task]
fn long(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

#[task]
fn sum(array: SharedArray<u64>) -> u64 {
    array.read().unwrap().iter().sum()
}

/// Rings and shared memory are files, too, which workers don't make longer.
#[test]
fn long_results_are_no_files() {
    with_pools(&Limits::new().file_size(4096), |pool| {
        let bytes = vec![7; 20 << 20];
        assert!(pool.apply(long, (bytes.clone(),)).unwrap() == bytes);
        let array = SharedArray::from_slice(&vec![1_u64; 1 << 20]).unwrap();
        assert_eq!(pool.apply(sum, (array,)).unwrap(), 1 << 20);
        works(pool);
    });
}

#[task]
fn allocate(bytes: u64) -> usize {
    vec![1_u8; bytes as usize].len()
}

#[task]
fn allocate_in_vain(bytes: u64) -> bool {
    Vec::<u8>::new().try_reserve(bytes as usize).is_err()
}

#[test]
fn addresses_are_limited() {
    with_pools(&Limits::new().address_space(512 * MIB).core_size(0), |pool| {
        assert_eq!(pool.apply(allocate, (100 * MIB,)).unwrap() as u64, 100 * MIB);
        assert!(pool.apply(allocate_in_vain, (600 * MIB,)).unwrap());
        let error = pool.apply(allocate, (600 * MIB,)).unwrap_err();
        assert_eq!(error.lost().unwrap().cause(), Cause::Signal(libc::SIGABRT));
        assert!(
            error.to_string().contains("address space is limited to 536870912 bytes"),
            "{error}"
        );
        works(pool);
    });
}

/// What `Limits::address_space` says of a bare worker.
#[test]
fn a_bare_worker_has_room_in_little() {
    with_pools(&Limits::new().address_space(48 * MIB).core_size(0), works);
}

#[task]
fn own_limits() -> [(u64, u64); 5] {
    let resources = [
        Resource::RLIMIT_CPU,
        Resource::RLIMIT_AS,
        Resource::RLIMIT_NOFILE,
        Resource::RLIMIT_CORE,
        Resource::RLIMIT_FSIZE,
    ];
    resources.map(|resource| getrlimit(resource).unwrap())
}

/// The task's own thread's.
#[task]
fn nice_and_affinity() -> (String, String) {
    let text = fs::read_to_string("/proc/thread-self/stat").unwrap();
    let nice = text.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().to_owned();
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    (nice, allowed.unwrap().trim().to_owned())
}

#[task]
fn open_in_vain() -> bool {
    let opened: Result<Vec<_>, _> = (0..200).map(|_| fs::File::open("/dev/null")).collect();
    opened.is_err_and(|error| error.raw_os_error() == Some(libc::EMFILE))
}

fn allowed_here() -> usize {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap();
    (0..1024).find(|processor| set.is_set(*processor).unwrap()).unwrap()
}

#[test]
fn limits_are_those_that_were_set() {
    let processor = allowed_here();
    let limits = Limits::new()
        .cpu_time(Duration::from_secs(77))
        .address_space(1 << 32)
        .open_files(100)
        .core_size(0)
        .file_size(5 * MIB)
        .nice(7)
        .affinity([processor]);
    let set = [(77, 78), (1 << 32, 1 << 32), (100, 100), (0, 0), (5 * MIB, 5 * MIB)];
    let own = own_limits();
    with_pools(&limits, |pool| {
        assert_eq!(pool.apply(own_limits, ()).unwrap(), set);
        let (nice, allowed) = pool.apply(nice_and_affinity, ()).unwrap();
        assert_eq!((nice, allowed), ("7".to_owned(), processor.to_string()));
        assert!(pool.apply(open_in_vain, ()).unwrap());
        works(pool);
    });
    alone_with_server(|| {
        for method in METHODS {
            let process = Process::new(own_limits, ()).limits(limits.clone()).start_method(method);
            assert_eq!(process.start().unwrap().join().unwrap(), set);
            // The next one has none, whoever makes it.
            let process = Process::new(own_limits, ()).start_method(method);
            assert_eq!(process.start().unwrap().join().unwrap(), own);
        }
    });
    assert_eq!(own_limits(), own);
}

#[test]
fn a_process_says_what_it_has_broken() {
    alone_with_server(|| {
        for method in METHODS {
            let limits = Limits::new().cpu_time(Duration::from_secs(1)).core_size(0);
            let process = Process::new(compute_for_ever, ()).limits(limits).start_method(method);
            let process = process.start().unwrap();
            let error = process.join().unwrap_err();
            is_over(&error, Limit::CpuTime, 1_000_000_000);
            assert_eq!(error.pid(), Some(process.pid()));
        }
    });
}

#[test]
fn what_the_system_refuses_is_said() {
    alone_with_server(|| {
        for method in METHODS {
            let limits = Limits::new().affinity([1000]);
            let process = Process::new(own_limits, ()).limits(limits.clone()).start_method(method);
            let error = process.start().unwrap().join().unwrap_err();
            let says = |error: &Error| {
                let text = error.to_string();
                assert!(text.contains("affinity can't be limited to [1000]"), "{text}");
            };
            says(&error);
            let pool = Pool::builder().processes(2).start_method(method).limits(limits);
            match pool.build() {
                Ok(pool) => says(&pool.apply(own_limits, ()).unwrap_err()),
                Err(error) => says(&error),
            }
        }
    });
}

#[task]
fn hold(bytes: u64) {
    std::hint::black_box(vec![1_u8; bytes as usize]);
    std::process::abort();
}

#[test]
fn a_loss_comes_with_what_was_used() {
    with_pools(&Limits::new().core_size(0), |pool| {
        let error = pool.call(hold).map([64 * MIB]).unwrap_err();
        let lost = error.lost().unwrap();
        assert_eq!(lost.cause(), Cause::Signal(libc::SIGABRT));
        assert_eq!((lost.task(), lost.index()), (error.task(), Some(0)));
        assert!(lost.task().unwrap().ends_with("hold") && lost.pid() == error.pid());
        // The process has gone for good, whenever that is.
        wait_until("it was reaped", || lost.usage().max_resident().is_some());
        assert!(lost.usage().max_resident().unwrap() >= 64 * MIB);
        assert!(error.limit().is_none());
    });
}

#[task]
fn named() -> String {
    current_process().name().to_owned()
}

#[test]
fn errors_without_a_loss_have_no_report() {
    with_pools(&Limits::new(), |pool| {
        let late = pool.call(compute_for_ever).timeout(Duration::from_millis(50)).apply(());
        let late = late.unwrap_err();
        let breach = late.limit().unwrap();
        assert_eq!((breach.limit(), breach.value()), (Limit::WallTime, 50_000_000));
        assert!(late.is_timeout() && late.lost().unwrap().cause() == Cause::Limit(breach));
        let waited = pool.apply_async(compute_for_ever, ()).get_timeout(Duration::ZERO);
        let waited = waited.unwrap_err();
        assert!(waited.is_timeout() && waited.lost().is_none() && waited.limit().is_none());
        assert!(pool.apply(named, ()).is_ok());
    });
}
