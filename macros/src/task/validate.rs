//! Everything that can be wrong with a task, with what to do about it.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::punctuated::Punctuated;
use syn::visit::Visit;
use syn::{
    Attribute, FnArg, GenericParam, Meta, Pat, ReturnType, Safety, Signature, Token, Type,
    TypeImplTrait, TypePath, TypeReference,
};

use super::args::Options;
use super::item::Item;
use super::model::Model;
use crate::diag::Diag;
use crate::paths::Krate;

/// `TaskFn` is implemented up to this number of arguments. Twelve is where std stops for tuples.
const MAX_ARGS: usize = 12;

/// Input: a function and options as they were written, and the errors so far.
/// Output: the model of a task that `expand` can take as it is, or all errors.
pub(crate) fn validate(options: &Options, item: Item, mut diag: Diag) -> Result<Model, Diag> {
    options_once(options, &mut diag);
    attribute_once(&item.attrs, &mut diag);
    qualifiers(&item.sig, &mut diag);
    generics(&item.sig, &mut diag);
    let args = arguments(&item.sig, &mut diag);
    let output = result(&item.sig, &mut diag);

    let krate = Krate::new(options.crates.first().map(|(_, path)| path));
    let model = Model {
        krate,
        conditions: item.attrs.iter().filter_map(|attr| condition(&attr.meta)).collect(),
        function: item.tokens,
        name: options.names.first().map(|(_, name)| name.clone()),
        is_async: item.sig.asyncness.is_some(),
        ident: item.sig.ident,
        args,
        output,
    };
    if diag.is_empty() { Ok(model) } else { Err(diag) }
}

fn options_once(options: &Options, diag: &mut Diag) {
    for (key, _) in options.names.iter().skip(1) {
        diag.error(key, "a task has one name: `name` is given twice");
    }
    for (key, _) in options.crates.iter().skip(1) {
        diag.error(key, "`crate` is given twice");
    }
    for (_, name) in &options.names {
        if name.value().trim().is_empty() {
            let text = "a task's name can't be empty; without `name` it is \
                        the function's path";
            diag.error(name, text);
        }
    }
}

/// A second `#[task]` would register the function a second time, and make its name ambiguous.
fn attribute_once(attrs: &[Attribute], diag: &mut Diag) {
    for attr in attrs {
        let path: Vec<_> = attr.path().segments.iter().map(|s| s.ident.to_string()).collect();
        let is_task = match path.as_slice() {
            [name] => name == "task",
            [krate, name] => krate == "procession" && name == "task",
            _ => false,
        };
        if is_task {
            diag.error(attr, "the function is a task already: remove the second `#[task]`");
        }
    }
}

fn qualifiers(sig: &Signature, diag: &mut Diag) {
    if let Safety::Unsafe(keyword) = &sig.safety {
        let text = "a task can't be `unsafe`: a worker calls it without knowing its conditions; \
                    write a safe function that calls this one";
        diag.error(keyword, text);
    }
    if let Some(abi) = &sig.abi {
        let text = "a task is an ordinary Rust function: remove the ABI, \
                    or write a Rust function that calls this one";
        diag.error(abi, text);
    }
    if let Some(variadic) = &sig.variadic {
        diag.error(variadic, "a task has a fixed number of arguments: take a `Vec` instead");
    }
}

fn generics(sig: &Signature, diag: &mut Diag) {
    for param in &sig.generics.params {
        match param {
            GenericParam::Lifetime(param) => {
                let text = "a task's arguments live in another process, so they can't be \
                            borrowed: remove the lifetime and take owned values, such as `String`";
                diag.error(param, text);
            }
            GenericParam::Type(_) | GenericParam::Const(_) => {
                let name = &sig.ident;
                let text = format!(
                    "a task can't be generic, because each task is one function in a table: \
                     remove `#[task]` and pass an instance, which needs no attribute, such as \
                     `pool.map({name}::<u32>, …)`"
                );
                diag.error(param, &text);
            }
        }
    }
}

fn arguments(sig: &Signature, diag: &mut Diag) -> Vec<Type> {
    let mut types = Vec::new();
    for (index, arg) in sig.inputs.iter().enumerate() {
        if index == MAX_ARGS {
            let text = "a task has at most 12 arguments: put some of them \
                        into a struct or a tuple";
            diag.error(arg, text);
        }
        match arg {
            FnArg::Receiver(receiver) => {
                let text = "a task can't be a method: move it out of the `impl` block and take \
                            the value as an ordinary, owned argument";
                diag.error(receiver, text);
            }
            FnArg::Typed(arg) => {
                pattern(&arg.pat, diag);
                TypeRules { diag, role: Role::Argument }.visit_type(&arg.ty);
                types.push((*arg.ty).clone());
            }
        }
    }
    types
}

fn pattern(pat: &Pat, diag: &mut Diag) {
    let is_name = match pat {
        Pat::Ident(pat) => pat.by_ref.is_none() && pat.subpat.is_none(),
        Pat::Wild(_) => true,
        _ => false,
    };
    if !is_name {
        let text = "a task's argument has a plain name: take it apart in the body, \
                    with `let`";
        diag.error(pat, text);
    }
}

fn result(sig: &Signature, diag: &mut Diag) -> Option<Type> {
    let ReturnType::Type(_, output) = &sig.output else { return None };
    if let Type::Never(never) = &**output {
        let text = "a task has a result that can be sent: leave the `-> !` out";
        diag.error(never, text);
    }
    TypeRules { diag, role: Role::Result }.visit_type(output);
    Some((**output).clone())
}

#[derive(Clone, Copy)]
enum Role {
    Argument,
    Result,
}

/// Finds the parts of a type that can't be sent, however deep they are.
struct TypeRules<'d> {
    diag: &'d mut Diag,
    role: Role,
}

impl<'ast> Visit<'ast> for TypeRules<'_> {
    fn visit_type_reference(&mut self, ty: &'ast TypeReference) {
        let owned = owned_form(&ty.elem);
        let text = match self.role {
            Role::Argument => format!(
                "a task's arguments live in another process, so they can't be borrowed: \
                 take {owned}"
            ),
            Role::Result => format!(
                "a task's result goes to another process, so it can't be borrowed: \
                 return {owned}"
            ),
        };
        self.diag.error(ty, &text);
    }

    fn visit_type_impl_trait(&mut self, ty: &'ast TypeImplTrait) {
        let text = match self.role {
            Role::Argument => {
                "a task can't take `impl Trait`, which makes it generic: name the type, or \
                 remove `#[task]` and pass a closure that calls this function with that type"
            }
            Role::Result => {
                "a task can't return `impl Trait`: the receiving process has to know the type, \
                 so name it"
            }
        };
        self.diag.error(ty, text);
    }

    fn visit_type_path(&mut self, ty: &'ast TypePath) {
        let first = ty.path.segments.first().filter(|_| ty.path.leading_colon.is_none());
        if let Some(segment) = first.filter(|segment| segment.ident == "Self") {
            let text = "a task can't be an associated function: move it out of the `impl` block \
                        and name the type; or remove `#[task]` and pass `Type::function`, \
                        which needs no attribute";
            self.diag.error(&segment.ident, text);
        }
        syn::visit::visit_type_path(self, ty);
    }

    // The types in an array's length are the function's own business.
    fn visit_expr(&mut self, _: &'ast syn::Expr) {}

    // A function pointer may well take references; whether it can be sent is for the compiler.
    fn visit_type_fn_ptr(&mut self, _: &'ast syn::TypeFnPtr) {}
}

/// What to take instead of `&elem`, quoted.
fn owned_form(elem: &Type) -> String {
    match elem {
        Type::Path(ty) if ty.path.is_ident("str") => "`String`".to_owned(),
        Type::Path(ty) if ty.path.is_ident("Path") => "`PathBuf`".to_owned(),
        Type::Slice(_) => "`Vec<…>`".to_owned(),
        Type::Path(ty) if ty.path.get_ident().is_some() => {
            format!("`{}`", ty.to_token_stream())
        }
        _ => "an owned value".to_owned(),
    }
}

/// Input: the inside of one attribute of the function.
/// Output: the attribute for the entry, if it decides whether the function exists:
/// `#[cfg(p)]` as it is, and `#[cfg_attr(p, cfg(q), inline)]` as `#[cfg_attr(p, cfg(q))]`.
fn condition(meta: &Meta) -> Option<TokenStream> {
    condition_meta(meta).map(|meta| quote!(#[#meta]))
}

fn condition_meta(meta: &Meta) -> Option<TokenStream> {
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
    let inner: Vec<_> = parts.filter_map(|part| condition_meta(&part)).collect();
    (!inner.is_empty()).then(|| quote!(cfg_attr(#predicate, #(#inner),*)))
}
