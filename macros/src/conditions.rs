//! Under which conditions an item exists.

use proc_macro2::TokenStream;
use quote::{ToTokens as _, quote};
use syn::punctuated::Punctuated;
use syn::{Attribute, Meta, Token};

/// Input: the attributes of an item.
/// Output: the attributes for what is generated beside it, which exists if, and only if, the item does:
/// `#[cfg(p)]` as it is, and `#[cfg_attr(p, cfg(q), inline)]` as `#[cfg_attr(p, cfg(q))]`.
pub(crate) fn of(attrs: &[Attribute]) -> Vec<TokenStream> {
    attrs.iter().filter_map(|attr| condition(&attr.meta)).map(|meta| quote!(#[#meta])).collect()
}

fn condition(meta: &Meta) -> Option<TokenStream> {
    if meta.path().is_ident("cfg") {
        return Some(meta.to_token_stream());
    }
    if !meta.path().is_ident("cfg_attr") {
        return None;
    }
    let Meta::List(list) = meta else { return None };
    let parser = Punctuated::<Meta, Token![,]>::parse_terminated;
    // What can't be read here is left to the compiler, which reads the function's own copy.
    let mut parts = list.parse_args_with(parser).ok()?.into_iter();
    let predicate = parts.next()?;
    let inner: Vec<_> = parts.filter_map(|part| condition(&part)).collect();
    (!inner.is_empty()).then(|| quote!(cfg_attr(#predicate, #(#inner),*)))
}
