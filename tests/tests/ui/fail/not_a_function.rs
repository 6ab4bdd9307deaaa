use procession::task;

#[task]
struct Job;

#[task]
mod jobs {}

#[task]
const JOB: fn() = main;

trait Jobs {
    #[task]
    fn run();
}

fn main() {
    let _ = Job;
    JOB();
}
