//! procession beside its peers in one run, in two tables: calls, beside bare posix_spawn, Python's
//! multiprocessing, procspawn and rayon; and what goes between processes, beside Python's, ipc-channel,
//! std's threads and bare words in shared memory.
//!
//! ```text
//! cargo bench
//! cargo bench -- --processes 4
//! cargo bench -- queue pipe
//! cargo bench -- --alone apply
//! ```
//!
//! procession's workers never reach this `main`: its hook takes them over before. The children of the
//! two other peers that start this executable do, and leave at its top.

use procession_benches::peers::{
    bare, ipc_channel, procession, procspawn, python, rayon, std as standard, words,
};
use procession_benches::{Options, Peer, goals_table, measure, results_table, verdicts};

fn main() {
    if bare::is_child() {
        return;
    }
    procspawn::init();

    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(2);
        }
    };
    let mut peers = peers(&options);
    let works = options.works();
    let figures = measure(&mut peers, &works, options.budget());

    let names: Vec<&'static str> = peers.iter().map(|peer| peer.name()).collect();
    let (rounds, processes) = (figures.rounds, options.processes);
    println!(
        "medians of {rounds} rounds, {processes} workers; (n×): procession is n times as fast\n"
    );
    let (between, calls): (Vec<_>, Vec<_>) =
        works.into_iter().partition(|work| work.is_between_processes());
    for (title, rows) in [("calls", calls), ("between processes", between)] {
        if !rows.is_empty() {
            println!("{}", results_table(title, &figures, &rows, &names));
        }
    }
    if options.measured {
        println!("{}", goals_table(&verdicts(&figures)));
    } else {
        println!("Each was only tried: `cargo bench` measures.");
    }
}

fn peers(options: &Options) -> Vec<Box<dyn Peer>> {
    let (processes, measured) = (options.processes, options.measured);
    let mut peers: Vec<Box<dyn Peer>> =
        vec![Box::new(procession::Procession::new(processes, measured))];
    if options.alone {
        return peers;
    }
    peers.push(Box::new(bare::Bare::new(measured)));
    match python::columns(processes, measured) {
        Ok(columns) => {
            peers.extend(columns.into_iter().map(|peer| Box::new(peer) as Box<dyn Peer>));
        }
        Err(error) => println!("without Python: can't run python3: {error}"),
    }
    peers.push(Box::new(procspawn::Procspawn::new(processes, measured)));
    peers.push(Box::new(rayon::Rayon::new(processes, measured)));
    peers.push(Box::new(ipc_channel::IpcChannel::new(measured)));
    peers.push(Box::new(standard::Std::new(measured)));
    peers.push(Box::new(words::Words::new(measured)));
    peers
}
