use std::path::Path;

use procession::managed;

struct Log(Vec<String>);

#[managed]
impl Log {
    pub fn open(_: &Path) -> Self {
        Self(Vec::new())
    }

    pub fn write(&mut self, line: &str) {
        self.0.push(line.to_owned());
    }

    pub fn write_all(&mut self, lines: Vec<&[String]>) {
        self.0.extend(lines.into_iter().flatten().cloned());
    }

    pub fn last(&self) -> Option<&String> {
        self.0.last()
    }
}

fn main() {}
