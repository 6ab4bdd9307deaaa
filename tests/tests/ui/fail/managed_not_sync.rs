use std::cell::Cell;
use std::rc::Rc;

use procession::managed;

struct Counter(Cell<u64>);

#[managed]
impl Counter {
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

struct Shared(Rc<u64>);

#[managed]
impl Shared {
    pub fn get(&self) -> u64 {
        *self.0
    }
}

fn main() {}
