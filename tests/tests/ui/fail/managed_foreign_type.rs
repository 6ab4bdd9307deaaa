use procession::managed;

#[managed]
impl [u8] {
    pub fn total(&self) -> u64 {
        self.iter().copied().map(u64::from).sum()
    }
}

fn main() {}
