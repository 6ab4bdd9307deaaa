use procession::task;

#[task(name = "math::square")]
fn square(x: u64) -> u64 {
    x * x
}

#[task(name = "math::square")]
fn cube(x: u64) -> u64 {
    x * x * x
}

fn main() {}
