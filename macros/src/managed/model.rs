//! What is left of a managed type once it is known to be right: all that `expand` needs.

use proc_macro2::{Ident, TokenStream};
use syn::{Attribute, LitStr, Visibility};

use crate::paths::Krate;

/// A valid managed type.
pub(crate) struct Model {
    pub(crate) krate: Krate,
    /// The `impl` block, unchanged.
    pub(crate) block: TokenStream,
    /// The type that it is about.
    pub(crate) managed: TokenStream,
    /// The same for people.
    pub(crate) text: String,
    /// The conditions under which the block exists.
    pub(crate) conditions: Vec<TokenStream>,
    /// The name given by `name = "…"`.
    pub(crate) name: Option<LitStr>,
    /// Whether a manager's snapshot can have values.
    pub(crate) persist: bool,
    /// The handle to generate, and what stands for it in a batch.
    pub(crate) proxy: Ident,
    pub(crate) batch: Ident,
    pub(crate) constructors: Vec<Function>,
    pub(crate) methods: Vec<Function>,
}

/// A function that can be called from other processes.
pub(crate) struct Function {
    pub(crate) kind: Kind,
    pub(crate) ident: Ident,
    pub(crate) vis: Visibility,
    /// The conditions under which it exists.
    pub(crate) conditions: Vec<TokenStream>,
    /// Attributes that hold for the generated one, too: what it is, and that it is deprecated.
    pub(crate) docs: Vec<Attribute>,
    /// Names and types, `Self` written out.
    pub(crate) args: Vec<(Ident, TokenStream)>,
    /// The result that is sent, `Self` written out.
    pub(crate) output: TokenStream,
    /// The `E` of a constructor that gives `Result<Self, E>`, and else nothing.
    pub(crate) error: TokenStream,
    /// As text, for people.
    pub(crate) signature: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Gives `Self`.
    Constructor,
    /// Gives `Result<Self, E>`.
    TryConstructor,
    /// Takes `&self`.
    Shared,
    /// Takes `&mut self`.
    Exclusive,
}
