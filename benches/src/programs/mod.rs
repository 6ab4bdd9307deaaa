//! Three real programs: what each computes, in Rust, and what it computes it from.
//!
//! Every peer gets the same input and must come to the same result; Python's peers do the same work as
//! its users would write it.

mod mandelbrot;
mod matches;
mod tree;

use std::fs;
use std::io;
use std::num::Wrapping;
use std::path::{Path, PathBuf};

pub(crate) use mandelbrot::{Picture, row};
pub(crate) use matches::{LINES, chunks, find};
pub(crate) use tree::{digest, files};

/// A real program.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Program {
    /// The rows of a picture.
    Mandelbrot,
    /// The digests of the files of a tree.
    HashTree,
    /// What a regular expression finds in lines of text.
    Matches,
}

impl Program {
    /// All programs, in the order of the table.
    pub const ALL: [Self; 3] = [Self::Mandelbrot, Self::HashTree, Self::Matches];

    /// The row's name.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Mandelbrot => "Mandelbrot set, 480 rows",
            Self::HashTree => "SHA-256 of 2,000 files, 32 MiB",
            Self::Matches => "a million matches of a regex",
        }
    }

    /// What peers in another language call it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Mandelbrot => "mandelbrot",
            Self::HashTree => "hash_tree",
            Self::Matches => "matches",
        }
    }
}

/// The inputs, in a temporary folder that is removed in the end.
#[derive(Debug)]
pub struct Inputs {
    folder: PathBuf,
    picture: Picture,
    expected: [u64; 3],
}

impl Inputs {
    /// Makes them; those of a run that only tries everything are small.
    ///
    /// # Errors
    /// The temporary folder can't be written to.
    pub fn make(measured: bool) -> io::Result<Self> {
        let name = format!("procession-benches-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let mut inputs = Self { folder, picture: Picture::new(measured), expected: [0; 3] };
        let (count, lines) = if measured { (2_000, LINES) } else { (20, 200) };
        fs::create_dir_all(&inputs.folder)?;
        tree::make(&inputs.tree(), count)?;
        fs::write(inputs.text(), matches::text(lines))?;
        let picture = inputs.picture;
        let files = tree::files(&inputs.tree())?;
        let digests = files.iter().map(|file| digest(file).map(number));
        inputs.expected = [
            (0..picture.height).map(|y| steps(&row(picture, y))).sum(),
            digests.sum::<io::Result<Wrapping<u64>>>()?.0,
            chunks(&fs::read_to_string(inputs.text())?).iter().map(|chunk| find(chunk).1).sum(),
        ];
        Ok(inputs)
    }

    /// What a program's result comes to, in a number: every peer must get the same.
    pub(crate) fn expected(&self, program: Program) -> u64 {
        self.expected[program as usize]
    }

    /// The root of the tree whose files are hashed.
    pub(crate) fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// The file whose lines are searched.
    pub(crate) fn text(&self) -> PathBuf {
        self.folder.join("lines.txt")
    }

    pub(crate) fn picture(&self) -> Picture {
        self.picture
    }

    /// A program's input in a word, for a peer in another process.
    pub(crate) fn argument(&self, program: Program) -> String {
        let path = |path: &Path| path.display().to_string();
        match program {
            Program::Mandelbrot => self.picture.to_string(),
            Program::HashTree => path(&self.tree()),
            Program::Matches => path(&self.text()),
        }
    }
}

/// All steps of a row.
pub(crate) fn steps(row: &[u8]) -> u64 {
    row.iter().map(|steps| u64::from(*steps)).sum()
}

/// The first eight bytes of a digest: the sum of all, whatever their order, is the tree's.
pub(crate) fn number(digest: [u8; 32]) -> Wrapping<u64> {
    let (first, _) = digest.split_first_chunk().expect("a digest has more than eight bytes");
    Wrapping(u64::from_le_bytes(*first))
}

impl Drop for Inputs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
