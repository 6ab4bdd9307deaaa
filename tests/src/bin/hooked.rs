//! A helper program of the tests, with no guard but the hook.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    procession_tests::scenarios::play()
}
