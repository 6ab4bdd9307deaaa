//! What can be run in another process: how a callable is described, named and completed.
//!
//! `task_fn` says which callables there are, `arguments` how their arguments are encoded,
//! `stateless` how a worker gets one from its type alone, `describe` what the expansion of `#[task]`
//! calls, `identity` how the parent names one, `bind` fixes some of its arguments, `names` looks tasks
//! up by name.

#[macro_use]
mod arity;
pub(crate) mod arguments;
pub(crate) mod asynchronous;
pub(crate) mod bind;
pub(crate) mod describe;
pub(crate) mod identity;
pub(crate) mod names;
mod stateless;
pub(crate) mod task_fn;
#[cfg(test)]
mod tests;
