//! All kinds of callables, with the marker inferred.

use procession::{TaskFn, bind, task};

fn call<M, F: TaskFn<M>>(f: F, args: F::Args) -> F::Output {
    f.descriptor();
    f.run_here(args)
}

#[task]
fn square(x: u64) -> u64 {
    x * x
}

#[task]
async fn later(x: u64, y: u64) -> u64 {
    std::future::ready(x).await + y
}

#[task]
fn fails(x: u8) -> Result<u8, String> {
    Err(x.to_string())
}

fn largest<T: Ord>(values: Vec<T>) -> Option<T> {
    values.into_iter().max()
}

fn future(x: u8) -> impl Future<Output = u8> {
    async move { x }
}

struct Model;

impl Model {
    fn scale(factor: f64, x: f64) -> f64 {
        factor * x
    }
}

fn main() {
    assert_eq!(call(square, (3,)), 9);
    assert_eq!(call(later, (3, 4)), 7);
    assert_eq!(call(fails, (3,)), Err("3".to_owned()));
    assert_eq!(call(largest::<u32>, (vec![1, 2],)), Some(2));
    assert_eq!(call(largest, (vec!['a', 'b'],)), Some('b'));
    assert_eq!(call(future, (3,)), 3);
    assert_eq!(call(Model::scale, (2.0, 3.0)), 6.0);
    assert_eq!(call(f64::sqrt, (9.0,)), 3.0);
    assert_eq!(call(u32::from, (3_u8,)), 3);
    assert_eq!(call(|| (), ()), ());
    assert_eq!(call(|x: u8| x + 1, (3,)), 4);
    assert_eq!(call(|x: u8| async move { x + 1 }, (3,)), 4);
    assert_eq!(call(async |x: u8| x + 1, (3,)), 4);
    assert_eq!(call(Some::<u8>, (3,)), Some(3));
    let double = bind(Model::scale, (2.0,));
    assert_eq!(call(double, (3.0,)), 6.0);
    assert_eq!(call(bind(later, (1,)), (3,)), 4);
    assert_eq!(call(bind(later, (1, 2)), ()), 3);
    assert_eq!(call(bind(bind(later, (1,)), (2,)), ()), 3);
}
