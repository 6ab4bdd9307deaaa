use procession::managed;

struct Switch(bool);

#[managed]
impl Switch {
    pub fn on(&mut self) {
        self.0 = true;
    }

    pub fn is_poisoned(&self) -> bool {
        self.0
    }

    pub fn clear_poison(&mut self) {
        self.0 = false;
    }
}

fn main() {}
