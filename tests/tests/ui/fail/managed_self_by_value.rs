use std::sync::Arc;

use procession::managed;

struct Counter(u64);

#[managed]
impl Counter {
    pub fn into_inner(self) -> u64 {
        self.0
    }

    pub fn take(mut self) -> u64 {
        self.0 += 1;
        self.0
    }

    pub fn shared(self: Arc<Self>) -> u64 {
        self.0
    }

    pub fn boxed(self: Box<Self>) -> u64 {
        self.0
    }

    pub fn get(&self) -> u64 {
        self.0
    }
}

fn main() {}
