use procession::managed;

struct Counter(u64);

#[managed(nme = "a")]
impl Counter {
    pub fn get(&self) -> u64 {
        self.0
    }
}

#[managed(name = "a", name = "b", proxy = A, proxy = B, crate = procession, crate = procession)]
impl Counter {
    pub fn doubled(&self) {}
}

#[managed(name = " ")]
impl Counter {
    pub fn empty(&self) {}
}

#[managed(name, proxy)]
impl Counter {
    pub fn no_value(&self) {}
}

#[managed(name = counter, proxy = "CounterHandle", crate = "procession")]
impl Counter {
    pub fn no_such_value(&self) {}
}

#[managed(persist, persist)]
impl Counter {
    pub fn kept(&self) {}
}

#[managed(persist = "path")]
impl Counter {
    pub fn kept_there(&self) {}
}

fn main() {}
