use procession::managed;

struct Point(u64, u64);

#[managed]
impl Point {
    pub fn shift(&mut self, (x, y): (u64, u64)) {
        self.0 += x;
        self.1 += y;
    }

    pub fn scale(&mut self, ref factor: u64) {
        self.0 *= factor;
    }
}

fn main() {}
