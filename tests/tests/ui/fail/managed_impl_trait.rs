use procession::managed;

struct Log(Vec<String>);

#[managed]
impl Log {
    pub fn write(&mut self, line: impl ToString) {
        self.0.push(line.to_string());
    }

    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.0.clone().into_iter()
    }
}

fn main() {}
