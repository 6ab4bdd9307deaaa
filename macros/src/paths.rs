//! The paths that generated code names. All are absolute, so that nothing the user has in scope
//! can stand in for them.

use proc_macro2::TokenStream;
use quote::quote;
use syn::Path;

/// Where the runtime is found: the option `crate = path`, or `::procession`.
pub(crate) struct Krate(TokenStream);

impl Krate {
    pub(crate) fn new(option: Option<&Path>) -> Self {
        match option {
            Some(path) => Krate(quote!(#path)),
            None => Krate(quote!(::procession)),
        }
    }

    /// The runtime's public root.
    pub(crate) fn root(&self) -> &TokenStream {
        &self.0
    }

    /// The part of the runtime that exists for generated code.
    pub(crate) fn private(&self) -> TokenStream {
        let root = &self.0;
        quote!(#root::__private)
    }
}
