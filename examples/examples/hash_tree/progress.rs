//! How far it is, on a terminal.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    thread,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use super::walk::Walk;

/// A bar on stderr, counting files; a hidden one if stderr is no terminal, or if the sums go to a
/// terminal too and would mix with it.
///
/// A second walk counts the files meanwhile. It ends with the program, if not before.
pub(crate) fn bar(folders: &[PathBuf]) -> ProgressBar {
    if !io::stderr().is_terminal() || io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} files, {eta} left")
            .expect("the template is valid");
    let bar = ProgressBar::no_length().with_style(style);
    bar.enable_steady_tick(Duration::from_millis(100));

    let (counted, walk) = (bar.clone(), Walk::new(folders.to_vec()));
    thread::spawn(move || counted.set_length(walk.filter(Result::is_ok).count() as u64));
    bar
}
