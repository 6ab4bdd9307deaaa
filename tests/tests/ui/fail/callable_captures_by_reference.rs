use procession::TaskFn;

fn apply<M, F: TaskFn<M>>(_: F) {}

fn main() {
    let counter = std::cell::Cell::new(0);
    apply(|x: u64| counter.set(x));
}
