use procession::managed;

struct Sum(u64);

#[managed]
impl Sum {
    pub fn add(
        &mut self,
        a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8, i: u8, j: u8, k: u8, l: u8,
        m: u8,
    ) {
        self.0 += [a, b, c, d, e, f, g, h, i, j, k, l, m].into_iter().map(u64::from).sum::<u64>();
    }
}

fn main() {}
