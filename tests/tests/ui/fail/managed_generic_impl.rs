use procession::managed;

struct Stack<T>(Vec<T>);

#[managed]
impl<T: Clone> Stack<T> {
    pub fn top(&self) -> Option<T> {
        self.0.last().cloned()
    }
}

struct Ring<const N: usize>([u8; N]);

#[managed]
impl<const N: usize> Ring<N> {
    pub fn first(&self) -> u8 {
        self.0[0]
    }
}

struct View<'a>(&'a str);

#[managed]
impl<'a> View<'a> {
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn main() {}
