use procession::task;

#[task]
unsafe extern "C" fn print(_format: String, _args: ...) {}

fn main() {}
