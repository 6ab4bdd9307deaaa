//! procession beside bare posix_spawn, Python's multiprocessing, procspawn and rayon: one table.
//!
//! ```text
//! cargo bench
//! cargo bench -- --processes 4
//! cargo bench -- --alone apply
//! ```
//!
//! procession's workers never reach this `main`: its hook takes them over before. The children of the
//! two other peers that start this executable do, and leave at its top.

use procession_benches::peers::{bare, procession, procspawn, python, rayon};
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
    println!("{}", results_table(&figures, &works, &names));
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
    match python::both(processes, measured) {
        Ok(columns) => {
            peers.extend(columns.into_iter().map(|peer| Box::new(peer) as Box<dyn Peer>));
        }
        Err(error) => println!("without Python: can't run python3: {error}"),
    }
    peers.push(Box::new(procspawn::Procspawn::new(processes, measured)));
    peers.push(Box::new(rayon::Rayon::new(processes, measured)));
    peers
}
