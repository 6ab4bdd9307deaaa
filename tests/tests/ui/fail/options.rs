use procession::task;

#[task(nme = "a")]
fn unknown() {}

#[task(name = "a", name = "b")]
fn doubled() {}

#[task(crate = procession, crate = procession)]
fn doubled_crate() {}

#[task(name = "")]
fn empty() {}

#[task(name)]
fn no_value() {}

#[task(name = square)]
fn no_string() {}

#[task(crate = "procession")]
fn no_path() {}

#[task("square")]
fn no_key() {}

#[task(timeout = 3, name = "good", retries(2))]
fn two_unknown() {}

fn main() {
    unknown();
    doubled();
}
