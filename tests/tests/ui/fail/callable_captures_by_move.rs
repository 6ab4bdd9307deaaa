use procession::TaskFn;

fn apply<M, F: TaskFn<M>>(_: F) {}

fn main() {
    let word = String::new();
    apply(move |x: u64| format!("{word}{x}"));
}
