//! Collects the errors of one attribute, so that the reader sees all of them in one build.

use proc_macro2::TokenStream;
use quote::ToTokens;

/// The errors found so far.
#[derive(Default)]
pub(crate) struct Diag {
    errors: Option<syn::Error>,
}

impl Diag {
    /// Adds an error that underlines `culprit`.
    pub(crate) fn error(&mut self, culprit: impl ToTokens, message: &str) {
        self.add(syn::Error::new_spanned(culprit, message));
    }

    /// Adds an error that already has its place.
    pub(crate) fn add(&mut self, error: syn::Error) {
        match &mut self.errors {
            Some(errors) => errors.combine(error),
            none => *none = Some(error),
        }
    }

    /// Whether there were no errors so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.errors.is_none()
    }

    /// A `compile_error!` for each error.
    pub(crate) fn into_tokens(self) -> TokenStream {
        self.errors.map(|errors| errors.to_compile_error()).unwrap_or_default()
    }
}
