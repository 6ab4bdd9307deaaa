use procession::TaskFn;

fn apply<M, F: TaskFn<M>>(_: F) {}

fn length(text: &str) -> usize {
    text.len()
}

fn main() {
    apply(length);
}
