use procession::managed;

#[managed]
struct Counter;

#[managed]
fn count() {}

#[managed]
mod counters {}

#[managed]
trait Count {
    fn count(&self);
}

fn main() {
    let _ = Counter;
    count();
}
