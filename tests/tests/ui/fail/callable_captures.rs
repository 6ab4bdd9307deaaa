use procession::TaskFn;

fn verb<M, F: TaskFn<M>>(f: F) {
    const { F::CHECK };
    f.descriptor();
}

fn main() {
    let factor = 3;
    verb(move |x: u64| factor * x);
}
