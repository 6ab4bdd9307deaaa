use std::borrow::Cow;

use procession::task;

#[task]
fn shout<'a>(text: Cow<'a, str>) -> String {
    text.to_uppercase()
}

fn main() {}
