//! The digests of the files of a tree.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::schedule::Random;

/// The files of one folder.
const IN_FOLDER: usize = 50;

/// The sizes of files: most are small, as in a tree of sources, and on average they are 16 KiB.
const SIZES: [usize; 8] = [1, 2, 3, 4, 6, 12, 32, 71];

/// Makes a tree of so many files.
pub(super) fn make(root: &Path, files: usize) -> io::Result<()> {
    let mut random = Random(1);
    for file in 0..files {
        let folder = root.join(format!("{:03}", file / IN_FOLDER));
        if file % IN_FOLDER == 0 {
            fs::create_dir_all(&folder)?;
        }
        let words = (SIZES[random.next() as usize % SIZES.len()] << 10) / 8;
        let bytes: Vec<u8> = (0..words).flat_map(|_| random.next().to_le_bytes()).collect();
        fs::write(folder.join(format!("{file:05}.bin")), bytes)?;
    }
    Ok(())
}

/// The files of a tree made by [`make`], in order.
pub(crate) fn files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in fs::read_dir(root)? {
        for file in fs::read_dir(folder?.path())? {
            files.push(file?.path());
        }
    }
    files.sort();
    Ok(files)
}

/// The SHA-256 of a file.
pub(crate) fn digest(file: &Path) -> io::Result<[u8; 32]> {
    Ok(Sha256::digest(fs::read(file)?).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_its_files_and_their_digests() {
        let root = std::env::temp_dir().join(format!("procession-tree-{}", std::process::id()));
        make(&root, 60).unwrap();
        let files = files(&root).unwrap();
        assert_eq!(files.len(), 60);
        assert_ne!(digest(&files[0]).unwrap(), digest(&files[59]).unwrap());
        let empty = root.join("empty");
        fs::write(&empty, "").unwrap();
        assert_eq!(digest(&empty).unwrap()[..4], [0xE3, 0xB0, 0xC4, 0x42]);
        fs::remove_dir_all(root).unwrap();
    }
}
