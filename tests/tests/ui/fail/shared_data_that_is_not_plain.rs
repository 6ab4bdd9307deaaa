use procession::{SharedArray, SharedSlice};

#[derive(Clone, Copy)]
struct Point {
    x: f64,
}

fn main() {
    let points = SharedSlice::from_vec(vec![Point { x: 1.0 }]).unwrap();
    println!("{}", points[0].x);
    let _ = SharedArray::<String>::new(3);
}
