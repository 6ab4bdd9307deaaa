use procession::task;

#[task]
#[task]
fn square(x: u64) -> u64 {
    x * x
}

#[procession::task]
#[procession::task(name = "other")]
fn cube(x: u64) -> u64 {
    x * x * x
}

fn main() {}
