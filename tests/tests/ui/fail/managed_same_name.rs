use procession::managed;

struct Counter(u64);

#[managed(name = "counts::Counter")]
impl Counter {
    pub fn get(&self) -> u64 {
        self.0
    }
}

struct Other(u64);

#[managed(name = "counts::Counter")]
impl Other {
    pub fn get(&self) -> u64 {
        self.0
    }
}

fn main() {}
