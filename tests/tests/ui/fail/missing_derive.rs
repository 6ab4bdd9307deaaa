use procession::task;

struct Job {
    path: String,
}

#[task]
fn run(count: u64, job: Job) -> String {
    job.path.repeat(count as usize)
}

fn main() {}
