//! Everything that can be wrong with a task, with what to do about it.

use syn::{Attribute, FnArg, GenericParam, Pat, ReturnType, Safety, Signature, Type};

use super::model::Model;
use crate::args::{self, Options};
use crate::conditions;
use crate::diag::Diag;
use crate::item::{Item, MAX_ARGS};
use crate::parts::{self, Part};
use crate::paths::Krate;

/// Input: a function and options as they were written, and the errors so far.
/// Output: the model of a task that `expand` can take as it is, or all errors.
pub(crate) fn validate(options: &Options, item: Item, mut diag: Diag) -> Result<Model, Diag> {
    options.check(args::TASK, &mut diag);
    attribute_once(&item.attrs, &mut diag);
    qualifiers(&item.sig, &mut diag);
    generics(&item.sig, &mut diag);
    let args = arguments(&item.sig, &mut diag);
    let output = result(&item.sig, &mut diag);

    let krate = Krate::new(options.crates.first().map(|(_, path)| path));
    let model = Model {
        krate,
        conditions: conditions::of(&item.attrs),
        function: item.tokens,
        name: options.names.first().map(|(_, name)| name.clone()),
        is_async: item.sig.asyncness.is_some(),
        ident: item.sig.ident,
        args,
        output,
    };
    if diag.is_empty() { Ok(model) } else { Err(diag) }
}

/// A second `#[task]` would register the function a second time, and make its name ambiguous.
fn attribute_once(attrs: &[Attribute], diag: &mut Diag) {
    for attr in attrs.iter().filter(|attr| args::is_ours(attr, "task")) {
        diag.error(attr, "the function is a task already: remove the second `#[task]`");
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
                sendable(&arg.ty, Role::Argument, diag);
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
    sendable(output, Role::Result, diag);
    Some((**output).clone())
}

#[derive(Clone, Copy)]
enum Role {
    Argument,
    Result,
}

/// Refuses the parts of a type that can't be sent.
fn sendable(ty: &Type, role: Role, diag: &mut Diag) {
    parts::find(ty, |part| match (part, role) {
        (Part::Borrowed(ty, owned), Role::Argument) => {
            let text = format!(
                "a task's arguments live in another process, so they can't be borrowed: \
                 take {owned}"
            );
            diag.error(ty, &text);
        }
        (Part::Borrowed(ty, owned), Role::Result) => {
            let text = format!(
                "a task's result goes to another process, so it can't be borrowed: \
                 return {owned}"
            );
            diag.error(ty, &text);
        }
        (Part::ImplTrait(ty), Role::Argument) => {
            let text = "a task can't take `impl Trait`, which makes it generic: name the type, or \
                        remove `#[task]` and pass a closure that calls this function with that type";
            diag.error(ty, text);
        }
        (Part::ImplTrait(ty), Role::Result) => {
            let text = "a task can't return `impl Trait`: the receiving process has to know the \
                        type, so name it";
            diag.error(ty, text);
        }
        (Part::SelfType(word), _) => {
            let text = "a task can't be an associated function: move it out of the `impl` block \
                        and name the type; or remove `#[task]` and pass `Type::function`, \
                        which needs no attribute";
            diag.error(word, text);
        }
    });
}
