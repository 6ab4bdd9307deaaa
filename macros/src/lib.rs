//! The attributes of procession: `#[task]`, `#[managed]` and `#[main]`.
//!
//! Use them through the crate `procession`, which re-exports and documents them. Each attribute is
//! a pipeline: parse, validate into a model, expand. Only parsing and validating make errors, all
//! of them at once; beside the errors the item is left as it stands, so that no others follow.

use proc_macro::TokenStream;

mod args;
mod conditions;
mod diag;
mod fallback;
mod item;
mod main_fn;
mod managed;
mod names;
mod parts;
mod paths;
mod task;
mod text;

/// Registers a function as a task.
#[proc_macro_attribute]
pub fn task(options: TokenStream, item: TokenStream) -> TokenStream {
    task::task(options.into(), item.into()).into()
}

/// Lets workers take over at the start of `main`.
#[proc_macro_attribute]
pub fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    main_fn::main(options.into(), item.into()).into()
}

/// Lets a manager own values of a type.
#[proc_macro_attribute]
pub fn managed(options: TokenStream, item: TokenStream) -> TokenStream {
    managed::managed(options.into(), item.into()).into()
}
