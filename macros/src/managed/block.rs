//! Reads the item under the attribute: an inherent `impl` block. The functions' bodies, and all items that
//! aren't functions, stay opaque.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::parse::{ParseStream, Parser as _};
use syn::{Attribute, Generics, Signature, Token, Type, Visibility, braced, token};

use crate::item;

/// An `impl` block as it was written.
pub(crate) struct Block {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) generics: Generics,
    /// The type that the block is about.
    pub(crate) managed: Type,
    pub(crate) functions: Vec<Function>,
    /// All of the above, unchanged.
    pub(crate) tokens: TokenStream,
}

/// A function in it, with or without `self`.
pub(crate) struct Function {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
}

/// Input: the tokens of an item. Output: an inherent `impl` block, or one error that says what to write.
pub(crate) fn parse(tokens: TokenStream) -> syn::Result<Block> {
    let block = |input: ParseStream<'_>| {
        let attrs = input.call(Attribute::parse_outer)?;
        if !input.peek(Token![impl]) {
            return Err(input.error("`#[managed]` goes on an `impl` block: `impl Counter { … }`"));
        }
        input.parse::<Token![impl]>()?;
        let mut generics: Generics = input.parse()?;
        let managed: Type = input.parse()?;
        if input.peek(Token![for]) {
            let text = "`#[managed]` goes on the type's own `impl` block, not on that of a trait: write \
                        one whose methods call those of the trait";
            return Err(syn::Error::new_spanned(&managed, text));
        }
        generics.where_clause = input.parse()?;
        let content;
        braced!(content in input);
        content.call(Attribute::parse_inner)?;
        Ok((attrs, generics, managed, functions(&content)?))
    };
    let (attrs, generics, managed, functions) = block.parse2(tokens.clone())?;
    Ok(Block { attrs, generics, managed, functions, tokens })
}

/// Input: what is between the block's braces. Output: the functions.
fn functions(content: ParseStream<'_>) -> syn::Result<Vec<Function>> {
    let mut functions = Vec::new();
    while !content.is_empty() {
        let attrs = content.call(Attribute::parse_outer)?;
        let vis = content.parse()?;
        if item::is_function(content) {
            let sig = content.parse()?;
            if !content.peek(token::Brace) {
                let text = "a function in an `impl` block has a body";
                return Err(syn::Error::new_spanned(&sig, text));
            }
            content.parse::<TokenTree>()?;
            functions.push(Function { attrs, vis, sig });
        } else {
            skip_item(content)?;
        }
    }
    Ok(functions)
}

/// Moves behind a constant or a type, which end with a semicolon, or a macro, which may end with a brace.
fn skip_item(content: ParseStream<'_>) -> syn::Result<()> {
    let ends_with_semicolon = content.peek(Token![const]) || content.peek(Token![type]);
    while !content.is_empty() {
        match content.parse()? {
            TokenTree::Punct(punct) if punct.as_char() == ';' => break,
            TokenTree::Group(group)
                if group.delimiter() == Delimiter::Brace && !ends_with_semicolon =>
            {
                break;
            }
            _ => {}
        }
    }
    Ok(())
}
