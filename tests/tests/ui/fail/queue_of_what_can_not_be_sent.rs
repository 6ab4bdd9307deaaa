use procession::{Queue, pipe_one_way};

struct Bare(u32);

fn main() {
    let _ = Queue::<Bare>::unbounded();
    let _ = pipe_one_way::<Bare>();
}
