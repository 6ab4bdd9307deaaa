//! The options in the attribute's parentheses.

use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::ext::IdentExt as _;
use syn::parse::{ParseStream, Parser as _};
use syn::{LitStr, Path, Token};

use crate::diag::Diag;

/// The options of `#[task]`.
pub(crate) const TASK: Accepted = Accepted {
    name: true,
    remedy: "`#[task]` takes `name = \"…\"` and `crate = path::to::procession`",
};

/// The options of `#[main]`.
pub(crate) const MAIN: Accepted =
    Accepted { name: false, remedy: "`#[main]` takes `crate = path::to::procession`" };

/// Which options an attribute takes.
#[derive(Clone, Copy)]
pub(crate) struct Accepted {
    name: bool,
    /// What to write instead of an option that isn't one.
    remedy: &'static str,
}

/// The options as they were written. An option that is given twice is here twice.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) names: Vec<(Ident, LitStr)>,
    pub(crate) crates: Vec<(Ident, Path)>,
}

/// Input: `name = "…", crate = path`, in any order, perhaps wrong.
/// Output: the options that could be read; the rest are errors in `diag`.
pub(crate) fn parse(tokens: TokenStream, accepted: Accepted, diag: &mut Diag) -> Options {
    let mut options = Options::default();
    let list = |input: ParseStream<'_>| {
        while !input.is_empty() {
            if let Err(error) = option(input, accepted, &mut options) {
                diag.add(error);
                skip_option(input);
            }
            if !input.is_empty() && input.parse::<Token![,]>().is_err() {
                diag.add(input.error("expected `,` between two options"));
                skip_option(input);
            }
        }
        Ok(())
    };
    if let Err(error) = list.parse2(tokens) {
        diag.add(error);
    }
    options
}

fn option(input: ParseStream<'_>, accepted: Accepted, into: &mut Options) -> syn::Result<()> {
    let unknown = |culprit: &dyn quote::ToTokens| {
        let text = format!("this option is unknown: {}", accepted.remedy);
        syn::Error::new_spanned(culprit, text)
    };
    let Ok(key) = input.call(Ident::parse_any) else {
        return Err(unknown(&input.fork().parse::<TokenTree>()?));
    };
    match key.to_string().as_str() {
        "name" if accepted.name => {
            expect_equals(input, &key, "name = \"…\"")?;
            let text = input.parse().map_err(|error| {
                syn::Error::new(error.span(), "a task's name is a string: `name = \"…\"`")
            })?;
            into.names.push((key, text));
        }
        "crate" => {
            expect_equals(input, &key, "crate = path::to::procession")?;
            let path = input.call(Path::parse_mod_style).map_err(|error| {
                let text = "`crate` is the path of the crate procession: `crate = path`";
                syn::Error::new(error.span(), text)
            })?;
            into.crates.push((key, path));
        }
        _ => return Err(unknown(&key)),
    }
    Ok(())
}

fn expect_equals(input: ParseStream<'_>, key: &Ident, usage: &str) -> syn::Result<()> {
    match input.parse::<Option<Token![=]>>()? {
        Some(_) => Ok(()),
        None => {
            let text = format!("this option needs a value: `{usage}`");
            Err(syn::Error::new_spanned(key, text))
        }
    }
}

/// Moves to the next comma, from where the options after a bad one can still be read.
fn skip_option(input: ParseStream<'_>) {
    while !input.is_empty() && !input.peek(Token![,]) {
        // Any token parses as a token tree, and there is one.
        if input.parse::<TokenTree>().is_err() {
            return;
        }
    }
}
