use procession::task;

#[task]
fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.sum()
}

#[task]
fn evens() -> impl Iterator<Item = u64> {
    (0..).step_by(2)
}

fn main() {}
