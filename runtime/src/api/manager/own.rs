//! A program's own server: its process, from the start to the end.
//!
//! Its end is waited for, so that nothing of it is left. Where it keeps a snapshot that is longer, as the last
//! one is written then; and it is waited for also when the program ends by `exit` with the manager in a static,
//! or forgotten.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError, Weak};
use std::time::Duration;

use super::super::process::Process;
use crate::error::{Error, Kind};
use crate::manage::afar::host::Listen;
use crate::manage::client::Client;
use crate::manage::front::Front;
use crate::manage::server;
use crate::os::exit;
use crate::shm::heap;
use crate::shm::platform::Deadline;
use crate::shm::system::System;

/// For how long a drop waits for the server's end: one that is stopped, or whose values don't come to an end,
/// is left to the program's end.
const PATIENCE: Duration = Duration::from_secs(5);

/// The same where there is a last snapshot: the server gives methods five seconds to end, and the rest is for
/// the disk.
const LONG_PATIENCE: Duration = Duration::from_secs(15);

/// See the file's head.
pub(super) struct Own {
    client: Arc<Client>,
    process: Process<Served>,
    keeps: bool,
}

/// What the server's task gives.
type Served = Result<(), String>;

fn serve(reception: heap::Object, listen: Option<Listen>, snapshot: Option<PathBuf>) -> Served {
    let served = Front::open(reception).and_then(|front| server::serve(front, listen, snapshot));
    served.map_err(|error| error.to_string())
}

impl Own {
    /// Starts the server, and waits until it serves.
    ///
    /// # Errors
    /// The process can't be started, or ends at once; there is no memory.
    pub(super) fn start(
        listen: Option<Listen>,
        snapshot: Option<PathBuf>,
    ) -> Result<Arc<Self>, Error> {
        let system = |error: io::Error| Error::system("can't start a manager", &error);
        let front = Front::create().map_err(system)?;
        let reception = front.object().clone();
        let keeps = snapshot.is_some();
        let args = (reception.clone(), listen, snapshot);
        let process = Process::new(serve, args).name("Manager").daemon(true).start()?;
        let client = Client::of(reception).map_err(system)?;
        let own = Arc::new(Self { client, process, keeps });
        own.wait_for_server()?;
        if keeps {
            remember(&own);
        }
        Ok(own)
    }

    pub(super) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    pub(super) fn process(&self) -> &Process<Served> {
        &self.process
    }

    fn wait_for_server(&self) -> Result<(), Error> {
        /// How long to wait for the bell before a look whether the server is alive.
        const LOOK: Duration = Duration::from_millis(50);

        let reception = self.client.front().reception();
        let has_begun = || reception.server().is_some().then_some(());
        while reception.alarm.wait_until(Deadline::after::<System>(LOOK), has_begun).is_none() {
            if !self.process.is_alive() {
                let why = self.process.join()?.err().unwrap_or_else(|| "it was told to".to_owned());
                return Err(Error::new(Kind::Start(format!("the manager's server ended: {why}"))));
            }
        }
        Ok(())
    }

    /// Ends the server, and waits for its end.
    ///
    /// # Errors
    /// It could not write its last snapshot, or has ended in another way.
    pub(super) fn shut_down(&self) -> Result<(), Error> {
        self.close();
        self.process.join()?.map_err(|why| Error::new(Kind::System(why)))
    }

    /// Ends the server, and waits for its end for some seconds.
    pub(super) fn let_go(&self) {
        self.close();
        if !self.keeps {
            // Whoever wants to know how it ends calls `shutdown`.
            let _ = self.process.join_timeout(PATIENCE);
            return;
        }
        let why = match self.process.join_timeout(LONG_PATIENCE) {
            Ok(Ok(())) => return,
            Ok(Err(why)) => why,
            Err(error) => error.to_string(),
        };
        // Nobody else can be told, and nobody may be there to read it.
        let _ = writeln!(io::stderr(), "procession: a manager's last snapshot: {why}");
    }

    fn close(&self) {
        self.client.front().reception().close();
    }
}

/// The servers that keep snapshots.
static KEEPERS: Mutex<Vec<Weak<Own>>> = Mutex::new(Vec::new());

/// The process that has them, to tell it from copies that are forked from it.
static OWNER: OnceLock<u32> = OnceLock::new();

fn keepers() -> MutexGuard<'static, Vec<Weak<Own>>> {
    KEEPERS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remember(own: &Arc<Own>) {
    static AT_EXIT: Once = Once::new();
    AT_EXIT.call_once(|| {
        let _ = OWNER.set(process::id());
        // After the one that ends daemons, and so it runs before.
        exit::at_exit(at_exit);
    });
    let mut keepers = keepers();
    keepers.retain(|keeper| keeper.strong_count() > 0);
    keepers.push(Arc::downgrade(own));
}

extern "C" fn at_exit() {
    if OWNER.get() != Some(&process::id()) {
        return;
    }
    let left: Vec<_> = keepers().drain(..).filter_map(|keeper| keeper.upgrade()).collect();
    left.iter().for_each(|own| own.close());
    left.iter().for_each(|own| own.let_go());
}
