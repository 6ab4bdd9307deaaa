use procession::TaskFn;

fn verb<M, F: TaskFn<M>>(f: F) {
    const { F::CHECK };
    f.descriptor();
}

fn square(x: u64) -> u64 {
    x * x
}

fn main() {
    let pointer: fn(u64) -> u64 = square;
    verb(pointer);
}
