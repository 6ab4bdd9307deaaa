//! A helper program of the tests, with the explicit guard.

#[procession::main]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    procession_tests::scenarios::play()
}
