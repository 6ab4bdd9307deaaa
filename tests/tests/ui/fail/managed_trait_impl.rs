use procession::managed;

struct Counter(u64);

#[managed]
impl Iterator for Counter {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0.checked_sub(1)
    }
}

fn main() {
    Counter(0).next();
}
