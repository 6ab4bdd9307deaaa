use procession::TaskFn;

fn apply<M, F: TaskFn<M>>(_: F) {}

fn main() {
    apply(|x| x);
}
