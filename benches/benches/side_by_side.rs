//! procession beside its peers in one run: starting processes, calls, maps, large data, what goes between
//! processes, tasks of all lengths, and three programs.
//!
//! ```text
//! cargo bench
//! cargo bench -- --report
//! cargo bench -- --processes 4
//! cargo bench -- queue pipe
//! cargo bench -- --alone apply
//! ```
//!
//! procession's workers never reach this `main`: its hook takes them over before. The children of other
//! peers that start this executable do, and leave at its top.

use std::rc::Rc;

use procession_benches::peers::{self, procession, procspawn};
use procession_benches::{
    Inputs, Options, Peer, Section, Setup, describe_machine, goals_table, measure, results_table,
    verdicts, write_report,
};

fn main() {
    if peers::is_child() {
        return;
    }
    procspawn::init();
    let done = Options::read(std::env::args().skip(1)).and_then(|options| run(&options));
    if let Err(error) = done {
        eprintln!("{error}");
        std::process::exit(2);
    }
}

fn run(options: &Options) -> Result<(), String> {
    let (processes, measured) = (options.processes, options.measured);
    // Before anything is measured, so that the load is what others do.
    let machine = describe_machine();
    let inputs = Inputs::make(measured).map_err(|error| format!("no inputs: {error}"))?;
    let setup = Setup { processes, measured, inputs: Rc::new(inputs) };
    let mut peers: Vec<Box<dyn Peer>> = vec![Box::new(procession::Procession::new(&setup))];
    let mut notes = Vec::new();
    if !options.alone {
        let (others, absent) = peers::others(&setup);
        peers.extend(others);
        notes = absent;
    }
    let works = options.works();
    let mut figures = measure(&mut peers, &works, options.budget());
    (figures.processes, figures.measured) = (processes, measured);
    let names: Vec<&'static str> = peers.iter().map(|peer| peer.name()).collect();

    let rounds = figures.rounds;
    println!(
        "medians of {rounds} rounds, {processes} workers; ±: half of what lies between the quartiles; \
         (n×): procession is n times as fast"
    );
    notes.iter().for_each(|note| println!("{note}"));
    for section in Section::ALL {
        let rows: Vec<_> = works.iter().copied().filter(|work| work.section() == section).collect();
        if !rows.is_empty() {
            println!("\n{}", results_table(section.title(), &figures, &rows, &names).text());
        }
    }
    let verdicts = verdicts(&figures);
    if measured && !verdicts.is_empty() {
        println!("{}", goals_table(&figures, &verdicts).text());
    }
    if let Some(folder) = &options.report {
        let written = write_report(folder, &figures, &works, &names, &notes, &machine);
        written.map_err(|error| format!("no report: {error}"))?;
    }
    if !measured {
        println!("Each was only tried: `cargo bench` measures.");
    }
    Ok(())
}
