//! Writes the entry of the dispatch table. Nothing here can fail.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt as _;

use super::model::Model;
use super::signature::signature;
use crate::names;

/// Input: the model of `fn square(x: u64) -> u64 { … }`.
/// Output:
/// ```text
/// fn square(x: u64) -> u64 { … }
/// struct __ProcessionTask_square([(); {
///     #[distributed_slice(TASKS)]
///     static ENTRY: Entry = Entry::new(
///         "app::square", "src/main.rs", 3, 4, "fn(u64) -> u64",
///         task_1::<_, u64, u64>(&square),
///     );
///     0
/// }]);
/// ```
/// The types are named as generic arguments, in the user's own tokens, so that the compiler puts
/// the one error about a type that can't be sent right under that type.
///
/// The entry is inside a struct, not a `const _`, for what the compiler says in an `impl` block,
/// which no attribute can see around it: that this does not go there, and to move it out to a
/// module. Of a constant it would say that `square` can't be found.
pub(crate) fn expand(model: &Model) -> TokenStream {
    let Model { function, conditions, ident, args, .. } = model;
    let private = model.krate.private();
    let holder = holder(model);
    let name = name(model);
    let signature = signature(model);
    let describe = describe(model);
    let output = model.output.as_ref().map_or_else(|| quote!(()), |ty| quote!(#ty));
    let future = model.is_async.then(|| quote!(_,));
    let place = quote_spanned! {ident.span()=>
        ::core::file!(), ::core::line!(), ::core::column!()
    };
    quote! {
        #function
        #(#conditions)*
        #[doc(hidden)]
        #[allow(deprecated, dead_code, non_camel_case_types)]
        struct #holder([(); {
            #[#private::linkme::distributed_slice(#private::TASKS)]
            #[linkme(crate = #private::linkme)]
            static __PROCESSION_ENTRY: #private::Entry = #private::Entry::new(
                #name,
                #place,
                #signature,
                #private::#describe::<_, #(#args,)* #future #output>(&#ident),
            );
            0
        }]);
    }
}

/// Output: an identifier made of the task's own name, so that a second task of the same name in
/// the same scope is a compile error; or else of the function's, which is there only once.
fn holder(model: &Model) -> Ident {
    let Some(name) = &model.name else {
        return format_ident!("__ProcessionTask_{}", model.ident.unraw());
    };
    names::of_text("__ProcessionTaskNamed_", &name.value())
}

/// Output: the name in the table, `module::path::function` or the given one.
fn name(model: &Model) -> TokenStream {
    match &model.name {
        Some(name) => quote!(#name),
        None => {
            let ident = model.ident.unraw().to_string();
            quote!(::core::concat!(::core::module_path!(), "::", #ident))
        }
    }
}

/// Output: the runtime's function that describes functions of this arity: `task_2`,
/// `async_task_2`.
fn describe(model: &Model) -> Ident {
    let arity = model.args.len();
    if model.is_async {
        format_ident!("async_task_{}", arity)
    } else {
        format_ident!("task_{}", arity)
    }
}
