//! A helper program of the tests that knows nothing of procession and takes its time.

fn main() {
    std::thread::sleep(std::time::Duration::from_secs(60));
}
