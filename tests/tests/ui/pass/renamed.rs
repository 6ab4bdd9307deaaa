//! The crate may be found elsewhere.

mod vendor {
    pub use procession as mp;
}

mod tasks {
    #[crate::vendor::mp::task(crate = crate::vendor::mp)]
    pub fn square(x: u64) -> u64 {
        x * x
    }

    #[crate::vendor::mp::task(name = "cube", crate = crate::vendor::mp,)]
    pub async fn cube(x: u64) -> u64 {
        x * x * x
    }
}

#[vendor::mp::main(crate = vendor::mp)]
fn main() {
    assert_eq!(tasks::square(2), 4);
    let _ = tasks::cube(2);
    assert_eq!(vendor::mp::tasks().len(), 2);
}
