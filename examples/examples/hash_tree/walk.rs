//! The regular files below some folders, in the byte order of their paths.

use std::{
    fmt,
    fs::{self, DirEntry, FileType},
    io,
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
};

/// A path that couldn't be looked into, and why.
#[derive(Debug)]
pub(crate) struct Failure {
    path: PathBuf,
    error: io::Error,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.path, self.error)
    }
}

/// Walks depth first and reads a folder only when it comes to it.
///
/// A folder sorts as if its name ended with a slash, which all paths below it have at that place:
/// so the depth-first order is the byte order of the whole paths.
pub(crate) struct Walk {
    /// What is still to be visited, the next one last.
    stack: Vec<Entry>,
    failures: Vec<Failure>,
}

struct Entry {
    path: PathBuf,
    is_folder: bool,
}

impl Walk {
    /// A walk over `roots`, which may also be plain files.
    pub(crate) fn new(roots: Vec<PathBuf>) -> Self {
        let mut walk = Self { stack: Vec::new(), failures: Vec::new() };
        for path in roots {
            let file_type = fs::symlink_metadata(&path).map(|metadata| metadata.file_type());
            walk.push(path, file_type);
        }
        walk.sort_from(0);
        walk
    }

    fn read(&mut self, folder: PathBuf) {
        let start = self.stack.len();
        match fs::read_dir(&folder) {
            Ok(entries) => entries.for_each(|entry| match entry {
                Ok(entry) => self.push(entry.path(), DirEntry::file_type(&entry)),
                Err(error) => self.failures.push(Failure { path: folder.clone(), error }),
            }),
            Err(error) => self.failures.push(Failure { path: folder, error }),
        }
        self.sort_from(start);
    }

    /// Takes in folders and regular files, and nothing else.
    fn push(&mut self, path: PathBuf, file_type: io::Result<FileType>) {
        match file_type {
            Ok(kind) if kind.is_dir() => self.stack.push(Entry { path, is_folder: true }),
            Ok(kind) if kind.is_file() => self.stack.push(Entry { path, is_folder: false }),
            Ok(_) => {}
            Err(error) => self.failures.push(Failure { path, error }),
        }
    }

    fn sort_from(&mut self, start: usize) {
        self.stack[start..].sort_by(|a, b| b.sort_key().cmp(a.sort_key()));
    }
}

impl Entry {
    fn sort_key(&self) -> impl Iterator<Item = &u8> {
        self.path.as_os_str().as_bytes().iter().chain(self.is_folder.then_some(&b'/'))
    }
}

impl Iterator for Walk {
    type Item = Result<PathBuf, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(failure) = self.failures.pop() {
                return Some(Err(failure));
            }
            match self.stack.pop()? {
                Entry { path, is_folder: true } => self.read(path),
                Entry { path, is_folder: false } => return Some(Ok(path)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::fs::symlink, path::Path};

    use super::*;

    fn below(folder: &Path) -> Vec<PathBuf> {
        Walk::new(vec![folder.to_path_buf()]).map(Result::unwrap).collect()
    }

    #[test]
    fn the_order_is_that_of_the_bytes_of_whole_paths() {
        let temp = tempfile::tempdir().unwrap();
        let names: [&[u8]; 9] =
            [b"a/z", b"a/b/c", b"a-b", b"a.b/x", b"a0", b"A", b"\xff", b"a/b.c", "ü".as_bytes()];
        let mut expected: Vec<_> =
            names.iter().map(|name| temp.path().join(OsStr::from_bytes(name))).collect();
        for path in &expected {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        expected.sort_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
        assert_eq!(below(temp.path()), expected);

        // As roots in any order, too.
        let roots = ["a", "A", "a.b", "a-b", "a0"].map(|name| temp.path().join(name));
        let found: Vec<_> = Walk::new(roots.to_vec()).map(Result::unwrap).collect();
        assert!(found.is_sorted_by_key(|path| path.as_os_str()), "{found:?}");
        assert_eq!(found.len(), 7);
    }

    #[test]
    fn only_regular_files_count_and_no_link_is_followed() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        fs::write(&file, "").unwrap();
        fs::create_dir(temp.path().join("empty")).unwrap();
        symlink(&file, temp.path().join("link")).unwrap();
        symlink(temp.path(), temp.path().join("loop")).unwrap();
        symlink("nowhere", temp.path().join("dangling")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(temp.path().join("socket")).unwrap();

        assert_eq!(below(temp.path()), std::slice::from_ref(&file));
        assert_eq!(below(&file), std::slice::from_ref(&file));
        assert_eq!(below(&temp.path().join("link")), [] as [&Path; 0]);
        assert_eq!(below(&temp.path().join("empty")), [] as [&Path; 0]);
    }

    #[test]
    fn a_missing_root_is_a_failure_that_is_named_and_the_rest_is_walked() {
        let temp = tempfile::tempdir().unwrap();
        let (file, missing) = (temp.path().join("file"), temp.path().join("missing"));
        fs::write(&file, "").unwrap();
        let items: Vec<_> = Walk::new(vec![missing.clone(), file.clone()]).collect();
        assert_eq!(items.len(), 2);
        let failure = items[0].as_ref().unwrap_err().to_string();
        assert!(failure.contains("missing\": No such file"), "{failure}");
        assert_eq!(items[1].as_ref().unwrap(), &file);
    }
}
