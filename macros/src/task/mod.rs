//! `#[task]`: leaves the function as it is and adds one entry to the dispatch table.

use proc_macro2::TokenStream;

use crate::diag::Diag;
use crate::fallback::fallback;
use crate::{args, item};

mod expand;
mod model;
mod signature;
mod validate;

/// parse → validate → expand; on any error, the errors and the fallback.
pub(crate) fn task(options: TokenStream, tokens: TokenStream) -> TokenStream {
    let mut diag = Diag::default();
    let options = args::parse(options, args::TASK, &mut diag);
    let item = match item::parse("#[task]", tokens.clone()) {
        Ok(item) => item,
        Err(error) => {
            diag.add(error);
            return fallback(diag, tokens);
        }
    };
    match validate::validate(&options, item, diag) {
        Ok(model) => expand::expand(&model),
        Err(diag) => fallback(diag, tokens),
    }
}
