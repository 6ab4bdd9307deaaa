use procession::task;

#[task]
fn add((a, b): (u8, u8), mut c: u8, _: u8) -> u8 {
    c += a + b;
    c
}

fn main() {}
