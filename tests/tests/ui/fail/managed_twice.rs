use procession::managed;

struct Counter(u64);

#[managed]
#[managed]
impl Counter {
    pub fn get(&self) -> u64 {
        self.0
    }
}

struct Other(u64);

#[procession::managed]
#[procession::managed(name = "other")]
impl Other {
    pub fn get(&self) -> u64 {
        self.0
    }
}

fn main() {}
