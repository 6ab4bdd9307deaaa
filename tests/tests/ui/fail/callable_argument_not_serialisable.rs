use procession::TaskFn;

fn apply<M, F: TaskFn<M>>(_: F) {}

struct Job;

fn run(_: Job) {}

fn main() {
    apply(run);
}
