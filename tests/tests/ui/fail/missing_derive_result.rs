use procession::task;

struct Report {
    lines: u64,
}

#[task]
fn run(path: String) -> Result<Report, String> {
    Ok(Report { lines: path.len() as u64 })
}

fn main() {}
