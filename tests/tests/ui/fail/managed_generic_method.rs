use procession::managed;

struct Log(Vec<String>);

#[managed]
impl Log {
    pub fn write<T: ToString>(&mut self, line: T) {
        self.0.push(line.to_string());
    }

    pub fn repeated<const N: usize>(&self) -> usize {
        self.0.len() * N
    }

    pub fn find<'a>(&'a self, text: &'a str) -> Option<&'a String> {
        self.0.iter().find(|line| line.contains(text))
    }

    pub fn last(&'static self) -> usize {
        self.0.len()
    }
}

fn main() {}
