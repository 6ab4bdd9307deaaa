use procession::task;

struct Model;

impl Model {
    #[task]
    fn scale(factor: f64, x: f64) -> f64 {
        factor * x
    }
}

fn main() {
    Model::scale(1.0, 2.0);
}
