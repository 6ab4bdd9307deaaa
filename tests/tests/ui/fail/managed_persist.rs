use procession::managed;

struct Counter(u64);

#[managed(persist)]
impl Counter {
    pub fn get(&self) -> u64 {
        self.0
    }
}

fn main() {}
