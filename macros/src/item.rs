//! Reads the item under an attribute: a function, whose body stays opaque.

use proc_macro2::{Group, TokenStream, TokenTree};
use syn::parse::{ParseStream, Parser as _};
use syn::{Attribute, Signature, Token, Visibility, token};

/// What can be called has up to this number of arguments. Twelve is where std stops for tuples.
pub(crate) const MAX_ARGS: usize = 12;

/// A function as it was written.
pub(crate) struct Item {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    pub(crate) body: Group,
    /// All of the above, unchanged.
    pub(crate) tokens: TokenStream,
}

/// Input: the tokens of an item. Output: a function with a body, or one error that names
/// `attribute`.
pub(crate) fn parse(attribute: &str, tokens: TokenStream) -> syn::Result<Item> {
    let function = |input: ParseStream<'_>| {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        if !is_function(input) {
            return Err(
                input.error(format!("`{attribute}` goes on a function: `fn name(…) {{ … }}`"))
            );
        }
        let sig: Signature = input.parse()?;
        if !input.peek(token::Brace) {
            let text = format!("`{attribute}` goes on a function that has a body");
            return Err(syn::Error::new_spanned(&sig, text));
        }
        Ok((attrs, vis, sig, input.parse()?))
    };
    let (attrs, vis, sig, body) = function.parse2(tokens.clone())?;
    Ok(Item { attrs, vis, sig, body, tokens })
}

/// Whether a function comes next, whatever qualifiers it has.
pub(crate) fn is_function(input: ParseStream<'_>) -> bool {
    const QUALIFIERS: [&str; 7] = ["default", "const", "async", "gen", "unsafe", "safe", "extern"];
    let ahead = input.fork();
    while !ahead.peek(Token![fn]) {
        let is_qualifier = match ahead.parse::<TokenTree>() {
            Ok(TokenTree::Ident(word)) => QUALIFIERS.iter().any(|qualifier| word == qualifier),
            // The ABI's name.
            Ok(TokenTree::Literal(_)) => true,
            _ => false,
        };
        if !is_qualifier {
            return false;
        }
    }
    true
}
