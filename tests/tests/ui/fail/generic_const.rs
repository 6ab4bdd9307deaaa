use procession::task;

#[task]
fn first<const N: usize>(bytes: Vec<u8>) -> Vec<u8> {
    bytes[..N].to_vec()
}

fn main() {}
