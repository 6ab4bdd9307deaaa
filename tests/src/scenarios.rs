//! What the helper programs do. Two programs play them: `guarded` has `#[procession::main]`, `hooked`
//! has no guard but the hook.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::process::{self, Command};
use std::thread;
use std::time::Duration;

use procession::{Error, Pool, PoolBuilder, Process, Queue, Stdio, bind, task};

/// Plays the scenario that the first argument names.
pub fn play() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().collect();
    let argument = |i: usize| arguments.get(i).map_or("", String::as_str);
    match argument(1) {
        "family" => family(argument(2)),
        "orphan" => orphan(),
        "busy" => busy(),
        "report" => report(),
        "on_request" => on_request(),
        "from" => from(argument(2)),
        "from_hanging" => from_hanging(argument(2)),
        "process_from" => process_from(argument(2)),
        "lost_statuses" => lost_statuses(),
        "a_little_of_everything" => {
            a_little_of_everything();
            Ok(())
        }
        "grandchild" => {
            println!("{}", Pool::builder().processes(1).build()?.apply(grandchild, ())?);
            Ok(())
        }
        other => Err(format!("there is no scenario {other:?}").into()),
    }
}

type Played = Result<(), Box<dyn std::error::Error>>;

fn say(word: &str, number: u32) {
    // One write, so that the lines of several processes don't mix.
    let mut out = io::stdout().lock();
    out.write_all(format!("{word} {number}\n").as_bytes()).expect("somebody listens");
    out.flush().expect("somebody listens");
}

/// Blocks until the standard input, which it inherits from the program, has ended.
fn until_stdin_ends() {
    let _ = io::stdin().read_to_end(&mut Vec::new());
}

#[task]
fn sleeper(word: String) {
    say(&word, process::id());
    thread::sleep(Duration::from_secs(600));
}

#[task]
fn lives_until_stdin_ends() {
    say("other", process::id());
    until_stdin_ends();
    // So that a parent that doesn't wait for it ends visibly earlier.
    thread::sleep(Duration::from_millis(200));
    println!("other done");
}

/// A daemon with a daemon and a pool of its own.
#[task]
fn patriarch() {
    say("patriarch", process::id());
    let _child = Process::new(sleeper, ("grandchild".into(),)).daemon(true).start().unwrap();
    let pool = Pool::builder().processes(1).build().unwrap();
    pool.apply(sleeper, ("pooled".into(),)).unwrap();
}

/// Not a daemon, with a daemon of its own.
#[task]
fn independent() {
    let child = Process::new(sleeper, ("kept".into(),)).daemon(true).start().unwrap();
    say("independent", process::id());
    until_stdin_ends();
    assert!(child.is_alive());
}

/// A program with children of all kinds, which ends in the way that `end` says. Without one, it waits
/// until it is ended.
fn family(end: &str) -> Played {
    let _daemon = Process::new(sleeper, ("daemon".into(),)).daemon(true).start()?;
    let _other = Process::new(lives_until_stdin_ends, ()).stdin(Stdio::inherit()).start()?;
    let _patriarch = Process::new(patriarch, ()).daemon(true).start()?;
    let _independent = Process::new(independent, ()).stdin(Stdio::inherit()).start()?;
    let pool = Pool::builder().processes(1).build()?;
    let _result = pool.apply_async(sleeper, ("worker".into(),));
    // The children say their numbers themselves, in any order; then the test asks for the end.
    match end {
        "wait" => loop {
            thread::sleep(Duration::from_secs(600));
        },
        "when_asked" => {}
        other => return Err(format!("no end {other:?}").into()),
    }
    wait_for_file(&env::var("GATE")?);
    match env::var("END").as_deref() {
        Ok("exit") => process::exit(7),
        Ok("abort") => process::abort(),
        Ok("panic") => panic!("as asked"),
        _ => Ok(()),
    }
}

/// Waits until there is a file.
pub fn wait_for_file(path: &str) {
    crate::wait_until("a file is there", || fs::exists(path).unwrap_or(false));
}

#[task]
fn waits_for_its_parent() {
    let parent = procession::parent_process().expect("it has one");
    assert!(!parent.join_timeout(Some(Duration::from_millis(20))) && parent.is_alive());
    say("waits", parent.pid());
    assert!(parent.join_timeout(None));
    assert!(!parent.is_alive());
    println!("the parent is gone");
}

fn orphan() -> Played {
    let _orphan = Process::new(waits_for_its_parent, ()).start()?;
    thread::sleep(Duration::from_secs(600));
    Ok(())
}

/// A pool of which each worker is in a task.
fn busy() -> Played {
    let pool = Pool::builder().processes(3).build()?;
    let words = ["busy"; 3].map(str::to_owned);
    pool.call(sleeper).chunksize(1).map(words)?;
    Ok(())
}

#[task]
fn square(x: u64) -> u64 {
    x * x
}

/// What the program finds at its start, and that it works.
fn report() -> Played {
    println!("variable {:?}", env::var_os("PROCESSION_WORKER"));
    println!("squares {:?}", Pool::builder().processes(2).build()?.map(square, 1..4)?);
    println!("stdin {}", fs::read_link("/proc/self/fd/0")?.display());
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes)?;
    println!("text {:?}", String::from_utf8_lossy(&bytes));
    Ok(())
}

/// Runs a task in a new worker for each line of input.
fn on_request() -> Played {
    let pool = Pool::builder().processes(1).max_tasks_per_child(1).build()?;
    for (line, number) in io::stdin().lines().zip(2..) {
        match line?.as_str() {
            "old pool" => println!("{}", pool.apply(square, (number,))?),
            "new pool" => {
                println!("{}", Pool::builder().processes(1).build()?.apply(square, (number,))?);
            }
            "process" => println!("{}", Process::new(square, (number,)).start()?.join()?),
            other => return Err(format!("no request {other:?}").into()),
        }
    }
    Ok(())
}

/// A pool whose workers are started from another file.
fn from(executable: &str) -> Played {
    procession::set_executable(executable)?;
    println!("{}", failure(Pool::builder().processes(2)));
    Ok(())
}

/// Why there is no pool, or, where its workers are spawned, why it does nothing.
fn failure(builder: PoolBuilder) -> Error {
    let result = builder.build().and_then(|pool| pool.apply(square, (3,)));
    result.expect_err("it is no worker of ours")
}

/// A pool whose workers never say anything.
fn from_hanging(executable: &str) -> Played {
    procession::set_executable(executable)?;
    let start = std::time::Instant::now();
    let limit = Duration::from_millis(150);
    let error = failure(Pool::builder().processes(1).start_timeout(limit));
    assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
    println!("{error}");
    crate::wait_until("they are gone", || crate::children_of(process::id()).is_empty());
    Ok(())
}

fn process_from(executable: &str) -> Played {
    procession::set_executable(executable)?;
    let process = Process::new(square, (3,)).start()?;
    println!("{}", process.join().expect_err("it is no worker of ours"));
    Ok(())
}

/// Started with SIGCHLD ignored: the system keeps no exit statuses.
fn lost_statuses() -> Played {
    let process = Process::new(square, (3,)).start()?;
    println!("{} {:?}", process.join()?, process.exit_status());
    let process = Process::new(sleeper, ("sleeper".into(),)).start()?;
    process.kill()?;
    let error = process.join().expect_err("it was killed");
    println!("{} {:?}", error.is_worker_lost(), error.exit_status());
    let pool = Pool::builder().processes(1).max_tasks_per_child(1).build()?;
    println!("{:?}", pool.map(square, 1..4)?);
    Ok(())
}

#[task]
fn same(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

#[task]
fn put(queue: Queue<Vec<u8>>, byte: u8) {
    queue.put(vec![byte; 1000]).expect("it is open");
}

/// Says of each verb that it works or why it doesn't; one that gives something wrong ends the program.
fn a_little_of_everything() {
    let says = |what: &str, result: Result<bool, Error>| match result {
        Ok(is_right) => {
            assert!(is_right, "{what} gives something wrong");
            println!("{what} works");
        }
        Err(error) => println!("{what}: {error}"),
    };
    let squares = |count| (0..count).map(square).collect::<Vec<_>>();
    let bytes = |count, length| (0..count).map(|i| vec![i; length]).collect::<Vec<_>>();
    match Pool::builder().processes(2).build() {
        Err(error) => println!("pool: {error}"),
        Ok(pool) => {
            says("apply", pool.apply(square, (7,)).map(|x| x == 49));
            says("map", pool.map(square, 0..5000).map(|results| results == squares(5000)));
            let results = pool.map(same, bytes(50, 16 << 10));
            says("map of bytes", results.map(|results| results == bytes(50, 16 << 10)));
            let long = vec![7; 4 << 20];
            says("long arguments", pool.apply(same, (long.clone(),)).map(|same| same == long));
            let results = pool.map(same, bytes(6, 900_000));
            says("map of long arguments", results.map(|results| results == bytes(6, 900_000)));
            let results: Result<Vec<_>, _> = pool.imap(square, 0..300).collect();
            says("imap", results.map(|results| results == squares(300)));
            let queued = Queue::unbounded().and_then(|queue| {
                pool.map(bind(put, (queue.clone(),)), 0..100)?;
                let got: Result<Vec<u8>, Error> = (0..100).map(|_| Ok(queue.get()?[0])).collect();
                let mut got = got?;
                got.sort_unstable();
                Ok(got.into_iter().eq(0..100))
            });
            says("queue", queued);
        }
    }
    let process = Process::new(square, (3,)).start().and_then(|process| process.join());
    says("process", process.map(|x| x == 9));
    println!("the end");
}

/// What a program that a task starts finds of ours: variables and descriptors.
#[task]
pub fn grandchild() -> String {
    // `ls` has its own descriptor for the directory; the rest is what it has inherited.
    let script = "env; ls -l /proc/self/fd";
    let output = Command::new("sh").args(["-c", script]).output().expect("there is a shell");
    String::from_utf8(output.stdout).expect("these are texts")
}
