//! Identifiers made of names that aren't.

use proc_macro2::{Ident, Span};

/// Output: an identifier made of a prefix and any text: different texts give different identifiers.
pub(crate) fn of_text(prefix: &str, text: &str) -> Ident {
    let mut out = String::from(prefix);
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            out.push(c);
        } else {
            // Between underscores, so that different names stay different.
            out.push_str(&format!("_{:x}_", u32::from(c)));
        }
    }
    Ident::new(&out, Span::call_site())
}
