fn main() {
    let _ = procession::wait(&[&5_u32], None);
}
