//! What stands in for the expansion when there were errors.

use proc_macro2::TokenStream;
use quote::quote;

use crate::diag::Diag;

/// Input: an item that was refused, with the reasons.
/// Output: a `compile_error!` for each reason, and the item as it stands, so that code which uses
/// it gives no errors of its own.
pub(crate) fn fallback(diag: Diag, item: TokenStream) -> TokenStream {
    let errors = diag.into_tokens();
    quote!(#errors #item)
}
