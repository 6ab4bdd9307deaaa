use procession::bind;

fn scale(factor: f64, x: f64) -> f64 {
    factor * x
}

fn main() {
    bind(scale, ("2",));
    bind(scale, 2.0);
    bind(scale, (1.0, 2.0, 3.0));
}
