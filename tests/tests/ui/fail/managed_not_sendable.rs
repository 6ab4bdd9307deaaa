use procession::managed;

struct Job {
    path: String,
}

struct Failed;

struct Board(Vec<String>);

#[managed]
impl Board {
    pub fn new(first: Job) -> Self {
        Self(vec![first.path])
    }

    pub fn open(path: String) -> Result<Self, Failed> {
        if path.is_empty() { Err(Failed) } else { Ok(Self(vec![path])) }
    }

    pub fn push(&mut self, count: u64, job: Job) {
        self.0.extend((0..count).map(|_| job.path.clone()));
    }

    pub fn pop(&mut self) -> Option<Job> {
        self.0.pop().map(|path| Job { path })
    }
}

fn main() {}
