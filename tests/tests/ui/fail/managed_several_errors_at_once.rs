use procession::managed;

struct Log(Vec<String>);

#[managed(nme = "log")]
impl Log {
    pub async fn write<T>(&mut self, line: &str, (_a, _b): (T, T)) -> impl Sized {
        self.0.push(line.to_owned());
    }
}

fn main() {
    // The block still stands, so its use is no error.
    drop(Log(Vec::new()).write("", (1, 2)));
}
