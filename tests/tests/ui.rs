//! What the attributes and the trait bounds refuse, and how they say it.

/// One run for both, because a case that must pass makes trybuild build the others too: a callable
/// with a value at run time is only found then.
#[test]
fn ui() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    cases.compile_fail("tests/ui/fail/*.rs");
}
