use procession::task;

#[derive(serde::Serialize)]
struct Job {
    path: String,
}

#[task]
async fn run(job: Job) -> Job {
    job
}

fn main() {}
