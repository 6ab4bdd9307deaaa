mod name {
    #[procession::main]
    fn start() {}
}

mod arguments {
    #[procession::main]
    fn main(_args: Vec<String>) {}
}

mod generic {
    #[procession::main]
    fn main<T>() {}
}

mod qualifiers {
    #[procession::main]
    const unsafe extern "C" fn main() {}
}

mod options {
    #[procession::main(name = "a")]
    fn main() {}
}

mod item {
    #[procession::main]
    struct Main;
}

fn main() {}
