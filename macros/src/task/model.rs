//! What is left of a task once it is known to be right: all that `expand` needs.

use proc_macro2::{Ident, TokenStream};
use syn::{LitStr, Type};

use crate::paths::Krate;

/// A valid task.
pub(crate) struct Model {
    pub(crate) krate: Krate,
    /// The function, unchanged.
    pub(crate) function: TokenStream,
    /// The conditions under which the function exists: `#[cfg(…)]` and what of `#[cfg_attr(…)]`
    /// is such a condition.
    pub(crate) conditions: Vec<TokenStream>,
    pub(crate) ident: Ident,
    /// The name given by `name = "…"`.
    pub(crate) name: Option<LitStr>,
    pub(crate) is_async: bool,
    pub(crate) args: Vec<Type>,
    /// The result as it was written: nothing for a function without `->`.
    pub(crate) output: Option<Type>,
}
