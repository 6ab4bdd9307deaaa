use procession::managed;

struct Counter(u64);

#[managed]
impl Counter {
    pub async fn wait(&self) -> u64 {
        self.0
    }

    pub unsafe fn get_unchecked(&self) -> u64 {
        self.0
    }

    pub extern "C" fn get(&self) -> u64 {
        self.0
    }

    pub fn stop(&self) -> ! {
        panic!("it ends")
    }
}

fn main() {}
