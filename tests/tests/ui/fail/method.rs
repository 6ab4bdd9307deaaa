use procession::task;

struct Model {
    factor: f64,
}

impl Model {
    #[task]
    fn scale(&self, x: f64) -> f64 {
        self.factor * x
    }

    #[task]
    fn consume(self) -> f64 {
        self.factor
    }
}

fn main() {}
