//! Compiles the C library that `crash_isolation` calls.

fn main() {
    println!("cargo::rerun-if-changed=native/parser.c");
    cc::Build::new().file("native/parser.c").compile("parser");
}
