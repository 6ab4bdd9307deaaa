use procession::task;

#[task(nme = "a")]
unsafe fn run<T>(_text: &str, (_a, _b): (T, T)) -> impl Sized {}

fn main() {
    // The function still stands, so its use is no error.
    let _ = unsafe { run("", (1, 2)) };
}
