use procession::managed;

struct Counter(u64);

#[managed]
impl Counter {
    pub fn new() -> Self {
        Self(0)
    }

    fn add(&mut self, n: u64) {
        self.0 += n;
    }
}

struct Nothing;

#[managed]
impl Nothing {}

fn main() {
    Counter::new().add(1);
    let _ = Nothing;
}
