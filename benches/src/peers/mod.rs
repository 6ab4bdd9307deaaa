//! Who does the work: one peer a file.

use ::std::rc::Rc;

use crate::programs::Inputs;
use crate::work::{Speed, Work};

pub mod bare;
mod conversation;
pub mod crossbeam;
pub mod fork_server;
pub mod ipc_channel;
pub mod memcpy;
pub mod procession;
pub mod procspawn;
pub mod python;
pub mod rayon;
pub mod sockets;
pub mod std;
pub mod words;

/// Someone who does the work that is measured. Its processes or threads are there from the first
/// [`run`](Self::run) on, so that only the first round pays for them.
pub trait Peer {
    /// The head of its column.
    fn name(&self) -> &'static str;

    /// Does one round of `work` and gives the nanoseconds for one each; none for what it can't do.
    ///
    /// # Panics
    /// The work fails: a comparison with a broken peer is worth nothing.
    fn run(&mut self, work: Work) -> Option<f64>;
}

/// What every peer is given.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its workers.
    pub processes: usize,
    /// Whether this is a measurement; otherwise everything is only tried once.
    pub measured: bool,
    /// What the programs work on.
    pub inputs: Rc<Inputs>,
}

impl Setup {
    fn speed(&self, measured: Speed) -> Speed {
        if self.measured { measured } else { Speed::Tried }
    }
}

/// The arguments of this executable that make it a child of a peer, and what such a child does.
const CHILDREN: [(&str, fn()); 3] = [
    (bare::LEAVE, || {}),
    (fork_server::SERVE, fork_server::serve),
    (sockets::SERVE, sockets::serve),
];

/// Does a child's work if this process is the child of a peer: then `main` returns. To be called first in
/// `main`, after [`procspawn::init`].
pub fn is_child() -> bool {
    let argument = ::std::env::args().nth(1).unwrap_or_default();
    let child = CHILDREN.iter().find(|(name, _)| *name == argument);
    child.inspect(|(_, work)| work()).is_some()
}

/// All peers but procession that are there, and a note for each that isn't.
pub fn others(setup: &Setup) -> (Vec<Box<dyn Peer>>, Vec<String>) {
    let mut peers: Vec<Box<dyn Peer>> = vec![
        Box::new(sockets::Sockets::new(setup)),
        Box::new(bare::Bare::new(setup)),
        Box::new(fork_server::ForkServer::new(setup)),
    ];
    let (python, notes) = python::columns(setup);
    peers.extend(python.into_iter().map(|peer| Box::new(peer) as Box<dyn Peer>));
    peers.push(Box::new(procspawn::Procspawn::new(setup)));
    peers.push(Box::new(rayon::Rayon::new(setup)));
    peers.push(Box::new(crossbeam::Crossbeam::new(setup)));
    peers.push(Box::new(ipc_channel::IpcChannel::new(setup)));
    peers.push(Box::new(std::Std::new(setup)));
    peers.push(Box::new(words::Words::new(setup)));
    peers.push(Box::new(memcpy::Memcpy::warm(setup)));
    peers.push(Box::new(memcpy::Memcpy::fresh(setup)));
    (peers, notes)
}
