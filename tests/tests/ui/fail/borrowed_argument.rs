use std::path::Path;

use procession::task;

struct Job;

#[task]
fn several(_text: &str, _bytes: &[u8], _path: &Path, _job: &Job, _nested: Option<&(u8, u8)>) {}

fn main() {}
