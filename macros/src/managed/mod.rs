//! `#[managed]`: leaves the `impl` block as it is and generates the handle that other processes have of
//! such a value.

use proc_macro2::TokenStream;

use crate::args;
use crate::diag::Diag;
use crate::fallback::fallback;

mod block;
mod expand;
mod model;
mod validate;

/// parse → validate → expand; on any error, the errors and the fallback.
pub(crate) fn managed(options: TokenStream, tokens: TokenStream) -> TokenStream {
    let mut diag = Diag::default();
    let options = args::parse(options, args::MANAGED, &mut diag);
    let block = match block::parse(tokens.clone()) {
        Ok(block) => block,
        Err(error) => {
            diag.add(error);
            return fallback(diag, tokens);
        }
    };
    match validate::validate(&options, block, diag) {
        Ok(model) => expand::expand(&model),
        Err(diag) => fallback(diag, tokens),
    }
}
