//! What the expansion of `#[task]` calls to describe the function: `task_0` to `task_12`, and
//! `async_task_0` to `async_task_12`.
//!
//! Each type of the signature is a generic parameter with a bound of its own, and nothing else is
//! asked for. So the compiler reports a type that can't be sent once, at that type.

use std::future::Future;

use super::asynchronous::Async;
use super::stateless;
use super::task_fn::Payload;
use crate::worker::dispatch::Descriptor;

/// Input: the names of the two functions, and the arguments of one arity. Output: the functions.
macro_rules! describe {
    ($task:ident $async_task:ident $($A:ident)*) => {
        /// Describes a function of this number of arguments.
        pub const fn $task<F, $($A,)* R>(callable: &F) -> &'static Descriptor
        where
            F: Fn($($A),*) -> R + Copy + Send + 'static,
            $($A: Payload,)*
            R: Payload,
        {
            stateless::descriptor::<fn($($A),*) -> R, F>(callable)
        }

        /// Describes an `async` function of this number of arguments.
        pub const fn $async_task<F, $($A,)* Fut, R>(callable: &F) -> &'static Descriptor
        where
            F: Fn($($A),*) -> Fut + Copy + Send + 'static,
            $($A: Payload,)*
            Fut: Future<Output = R>,
            R: Payload,
        {
            stateless::descriptor::<Async<fn($($A),*) -> R>, F>(callable)
        }
    };
}

// One call each, and not through `for_each_arity`, because an error about a type shows the call.
describe! { task_0 async_task_0 }
describe! { task_1 async_task_1 A1 }
describe! { task_2 async_task_2 A1 A2 }
describe! { task_3 async_task_3 A1 A2 A3 }
describe! { task_4 async_task_4 A1 A2 A3 A4 }
describe! { task_5 async_task_5 A1 A2 A3 A4 A5 }
describe! { task_6 async_task_6 A1 A2 A3 A4 A5 A6 }
describe! { task_7 async_task_7 A1 A2 A3 A4 A5 A6 A7 }
describe! { task_8 async_task_8 A1 A2 A3 A4 A5 A6 A7 A8 }
describe! { task_9 async_task_9 A1 A2 A3 A4 A5 A6 A7 A8 A9 }
describe! { task_10 async_task_10 A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 }
describe! { task_11 async_task_11 A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11 }
describe! { task_12 async_task_12 A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11 A12 }
