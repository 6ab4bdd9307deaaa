use procession::task;

#[task]
fn serve() -> ! {
    loop {}
}

fn main() {}
