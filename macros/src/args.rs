//! The options in the attribute's parentheses.

use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::ext::IdentExt as _;
use syn::parse::{ParseStream, Parser as _};
use syn::{Attribute, LitStr, Path, Token};

use crate::diag::Diag;

/// The options of `#[task]`.
pub(crate) const TASK: Accepted = Accepted {
    subject: "a task",
    keys: &["name", "crate"],
    default_name: "the function's path",
    remedy: "`#[task]` takes `name = \"…\"` and `crate = path::to::procession`",
};

/// The options of `#[managed]`.
pub(crate) const MANAGED: Accepted = Accepted {
    subject: "a managed type",
    keys: &["name", "crate", "proxy", "persist"],
    default_name: "the type's path",
    remedy: "`#[managed]` takes `name = \"…\"`, `proxy = Name`, `persist` and `crate = \
             path::to::procession`",
};

/// The options of `#[main]`.
pub(crate) const MAIN: Accepted = Accepted {
    subject: "`main`",
    keys: &["crate"],
    default_name: "`main`",
    remedy: "`#[main]` takes `crate = path::to::procession`",
};

/// Which options an attribute takes.
#[derive(Clone, Copy)]
pub(crate) struct Accepted {
    /// What has the options.
    subject: &'static str,
    keys: &'static [&'static str],
    /// The name without the option.
    default_name: &'static str,
    /// What to write instead of an option that isn't one.
    remedy: &'static str,
}

/// The options as they were written. An option that is given twice is here twice.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) names: Vec<(Ident, LitStr)>,
    pub(crate) crates: Vec<(Ident, Path)>,
    pub(crate) proxies: Vec<(Ident, Ident)>,
    pub(crate) persists: Vec<Ident>,
}

impl Options {
    /// What can be wrong with options that could be read: those that are given twice, and an empty name.
    pub(crate) fn check(&self, accepted: Accepted, diag: &mut Diag) {
        let Accepted { subject, default_name, .. } = accepted;
        for (key, _) in self.names.iter().skip(1) {
            diag.error(key, &format!("{subject} has one name: `name` is given twice"));
        }
        let again = self.crates.iter().skip(1).map(|(key, _)| key);
        let again = again.chain(self.proxies.iter().skip(1).map(|(key, _)| key));
        for key in again.chain(self.persists.iter().skip(1)) {
            diag.error(key, &format!("`{key}` is given twice"));
        }
        for (_, name) in &self.names {
            if name.value().trim().is_empty() {
                let text =
                    format!("{subject}'s name can't be empty; without `name` it is {default_name}");
                diag.error(name, &text);
            }
        }
    }
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
        other if !accepted.keys.contains(&other) => return Err(unknown(&key)),
        "name" => {
            expect_equals(input, &key, "name = \"…\"")?;
            let text = input.parse().map_err(|error| {
                let text = format!("{}'s name is a string: `name = \"…\"`", accepted.subject);
                syn::Error::new(error.span(), text)
            })?;
            into.names.push((key, text));
        }
        "persist" => into.persists.push(key),
        "proxy" => {
            expect_equals(input, &key, "proxy = Name")?;
            let ident = input.parse().map_err(|error| {
                let text = "`proxy` is the name of the type to generate: `proxy = Name`";
                syn::Error::new(error.span(), text)
            })?;
            into.proxies.push((key, ident));
        }
        _ => {
            expect_equals(input, &key, "crate = path::to::procession")?;
            let path = input.call(Path::parse_mod_style).map_err(|error| {
                let text = "`crate` is the path of the crate procession: `crate = path`";
                syn::Error::new(error.span(), text)
            })?;
            into.crates.push((key, path));
        }
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

/// Whether this attribute is one of ours, of this name.
pub(crate) fn is_ours(attr: &Attribute, name: &str) -> bool {
    let path: Vec<_> = attr.path().segments.iter().map(|s| s.ident.to_string()).collect();
    match path.as_slice() {
        [last] => last == name,
        [krate, last] => krate == "procession" && last == name,
        _ => false,
    }
}
