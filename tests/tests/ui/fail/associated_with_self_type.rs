use procession::task;

struct Model {
    factor: f64,
}

impl Model {
    #[task]
    fn load(factor: f64) -> Self {
        Model { factor }
    }

    #[task]
    fn factors(models: Vec<Self>) -> Vec<f64> {
        models.iter().map(|model| model.factor).collect()
    }
}

fn main() {}
