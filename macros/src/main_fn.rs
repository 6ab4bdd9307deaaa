//! `#[main]`: makes workers take over as the first thing in `main`.

use proc_macro2::{Delimiter, Group, Ident, TokenStream};
use quote::quote;
use syn::parse::{ParseStream, Parser as _};
use syn::{Attribute, Safety};

use crate::args::{self, Options};
use crate::diag::Diag;
use crate::item::{self, Item};
use crate::paths::Krate;

/// parse → validate → expand; on any error, the errors and the function as it stands.
pub(crate) fn main(options: TokenStream, tokens: TokenStream) -> TokenStream {
    let mut diag = Diag::default();
    let options = args::parse(options, args::MAIN, &mut diag);
    let item = match item::parse("#[main]", tokens.clone()) {
        Ok(item) => item,
        Err(error) => {
            diag.add(error);
            let errors = diag.into_tokens();
            return quote!(#errors #tokens);
        }
    };
    validate(&options, &item, &mut diag);
    if diag.is_empty() {
        expand(&Krate::new(options.crates.first().map(|(_, path)| path)), &item)
    } else {
        fallback(diag, item)
    }
}

/// Input: a refused `async fn main(args) { body }`, with the reasons.
/// Output: a `compile_error!` for each reason, the function under another name, so that what it
/// uses counts as used, and an empty `main`, so that the compiler does not refuse it once more.
/// A function with another name stays as it is.
fn fallback(diag: Diag, item: Item) -> TokenStream {
    let errors = diag.into_tokens();
    if item.sig.ident != "main" {
        let tokens = item.tokens;
        return quote!(#errors #tokens);
    }
    let Item { attrs, vis, mut sig, body, .. } = item;
    sig.ident = Ident::new("__procession_refused_main", sig.ident.span());
    quote! {
        #errors
        #vis fn main() {}
        #[allow(dead_code)]
        #(#attrs)*
        #sig #body
    }
}

fn validate(options: &Options, item: &Item, diag: &mut Diag) {
    let sig = &item.sig;
    options.check(args::MAIN, diag);
    if sig.ident != "main" {
        let text = "`#[main]` goes on the program's `fn main()`; \
                    for a function that a worker runs, use `#[task]`";
        diag.error(&sig.ident, text);
    }
    if let Some(keyword) = &sig.asyncness {
        let text = "`main` can't be async here, because a worker takes over before any runtime \
                    starts: put the runtime's attribute, such as `#[tokio::main]`, above \
                    `#[procession::main]`, or write `fn main()` and start the runtime in it";
        diag.error(keyword, text);
    }
    if let Some(keyword) = &sig.constness {
        diag.error(keyword, "`main` can't be `const` here: it calls `procession::init()`");
    }
    if let Safety::Unsafe(keyword) = &sig.safety {
        diag.error(keyword, "`main` can't be `unsafe`: remove the keyword");
    }
    if let Some(abi) = &sig.abi {
        let text = "`#[main]` goes on a Rust `fn main()`; in a C `main`, call \
                    `procession::init()` first";
        diag.error(abi, text);
    }
    if !sig.generics.params.is_empty() {
        diag.error(&sig.generics.params, "`main` can't be generic");
    }
    if !sig.inputs.is_empty() {
        let text = "`main` takes no arguments: use `std::env::args()`";
        diag.error(&sig.inputs, text);
    }
}

/// Input: `fn main() -> T { body }`
/// Output:
/// ```text
/// fn main() -> T { ::procession::init(); body }
/// #[cfg(not(test))]
/// const _: () = {
///     #[distributed_slice(MAINS)]
///     static MARK: Main = Main::new(module_path!());
/// };
/// ```
/// The mark tells the hook that runs before `main` to wait for it. A test harness has another
/// `main`, so there the mark must not stand.
fn expand(krate: &Krate, item: &Item) -> TokenStream {
    let Item { attrs, vis, sig, body, .. } = item;
    let (root, private) = (krate.root(), krate.private());
    let (inner, statements) = split_inner(body.stream());
    let mut block = Group::new(Delimiter::Brace, quote!(#inner #root::init(); #statements));
    // So that errors about the body's value point at the body.
    block.set_span(body.span());
    quote! {
        #(#attrs)*
        #vis #sig #block
        #[cfg(not(test))]
        const _: () = {
            #[#private::linkme::distributed_slice(#private::MAINS)]
            #[linkme(crate = #private::linkme)]
            static __PROCESSION_MAIN: #private::Main =
                #private::Main::new(::core::module_path!());
        };
    }
}

/// Input: `#![allow(x)] statements`. Output: the inner attributes, which must stay first, and the
/// statements.
fn split_inner(body: TokenStream) -> (TokenStream, TokenStream) {
    let split = |input: ParseStream<'_>| {
        let inner = input.call(Attribute::parse_inner)?;
        Ok((quote!(#(#inner)*), input.parse()?))
    };
    // A body whose attributes can't be read is the compiler's to complain about.
    split.parse2(body.clone()).unwrap_or((TokenStream::new(), body))
}
