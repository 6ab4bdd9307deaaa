//! Everything that can be wrong with a managed type, with what to do about it.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::{ToTokens as _, format_ident, quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::{
    Attribute, FnArg, GenericArgument, GenericParam, Pat, PathArguments, Receiver, ReceiverKind,
    ReturnType, Safety, Signature, Type, Visibility,
};

use super::block::{self, Block};
use super::model::{Function, Kind, Model};
use crate::args::{self, Options};
use crate::diag::Diag;
use crate::item::MAX_ARGS;
use crate::parts::{self, Part};
use crate::paths::Krate;
use crate::{conditions, text};

/// Input: a block and options as they were written, and the errors so far.
/// Output: the model of a managed type that `expand` can take as it is, or all errors.
pub(crate) fn validate(options: &Options, block: Block, mut diag: Diag) -> Result<Model, Diag> {
    options.check(args::MANAGED, &mut diag);
    for attr in block.attrs.iter().filter(|attr| args::is_ours(attr, "managed")) {
        diag.error(attr, "the type is managed already: remove the second `#[managed]`");
    }
    generics(&block, &mut diag);
    let ident = name_of(&block.managed, &mut diag);
    let managed = block.managed.to_token_stream();
    let functions = functions(&block, &managed, &mut diag);
    let is_constructor =
        |function: &Function| matches!(function.kind, Kind::Constructor | Kind::TryConstructor);
    let (constructors, methods): (Vec<_>, Vec<_>) = functions.into_iter().partition(is_constructor);

    let proxy = match options.proxies.first() {
        Some((_, proxy)) => proxy.clone(),
        None => format_ident!("{ident}Proxy"),
    };
    let stem = proxy.to_string();
    let batch = format_ident!("{}Batch", stem.strip_suffix("Proxy").unwrap_or(&stem));
    let model = Model {
        krate: Krate::new(options.crates.first().map(|(_, path)| path)),
        block: block.tokens,
        text: text::of(managed.clone()),
        managed,
        conditions: conditions::of(&block.attrs),
        name: options.names.first().map(|(_, name)| name.clone()),
        persist: !options.persists.is_empty(),
        batch: Ident::new(&batch.to_string(), proxy.span()),
        proxy,
        constructors,
        methods,
    };
    if diag.is_empty() { Ok(model) } else { Err(diag) }
}

fn generics(block: &Block, diag: &mut Diag) {
    for param in &block.generics.params {
        let text = match param {
            GenericParam::Lifetime(_) => {
                "a managed value lives in another process, so it can't borrow: remove the lifetime \
                 and let it own what it holds"
            }
            GenericParam::Type(_) | GenericParam::Const(_) => {
                "a managed type can't be generic, because the manager's process has to know each \
                 type: write the block for one type, such as `impl Stack<u64>`, or wrap that in a \
                 struct"
            }
        };
        diag.error(param, text);
    }
}

/// Input: `path::Stack<u64>`. Output: `Stack`.
fn name_of(managed: &Type, diag: &mut Diag) -> Ident {
    if let Type::Path(ty) = managed
        && ty.qself.is_none()
        && let Some(segment) = ty.path.segments.last()
    {
        return segment.ident.unraw();
    }
    let text = "a managed type is a struct or an enum of this crate: wrap this one in a struct";
    diag.error(managed, text);
    format_ident!("Refused")
}

fn functions(block: &Block, managed: &TokenStream, diag: &mut Diag) -> Vec<Function> {
    let is_public = |function: &&block::Function| !matches!(function.vis, Visibility::Inherited);
    let public: Vec<_> = block.functions.iter().filter(is_public).collect();
    let mut reachable = Vec::new();
    for function in &public {
        if let Some(kind) = kind(&function.sig, &block.managed, diag) {
            reachable.push(checked(function, kind, managed, diag));
        }
    }
    // Without a method there is nothing to do with a value, whatever makes it.
    let has_receiver = |function: &&block::Function| function.sig.receiver().is_some();
    if !public.iter().any(has_receiver) {
        let text = "no method of it could be called from another process: make those `pub` that \
                    should be";
        diag.error(&block.managed, text);
    }
    reachable
}

/// What a public function is to a manager; nothing, if it takes no `self` and gives no `Self`.
fn kind(sig: &Signature, managed: &Type, diag: &mut Diag) -> Option<Kind> {
    match sig.receiver() {
        Some(receiver) => Some(receives(receiver, diag)),
        None => made_by(sig, managed),
    }
}

fn receives(receiver: &Receiver, diag: &mut Diag) -> Kind {
    if let ReceiverKind::Reference(_, lifetime, mutability) = &receiver.kind {
        if let Some(lifetime) = lifetime {
            let text = "a result goes to another process, so it can't be borrowed from the value: \
                        remove the lifetime";
            diag.error(lifetime, text);
        }
        return if mutability.is_some() { Kind::Exclusive } else { Kind::Shared };
    }
    let text = "the value stays in the manager's process: take `&self`, or `&mut self`, or move \
                this function to an `impl` block without `#[managed]`";
    diag.error(receiver, text);
    Kind::Shared
}

/// Whether a function without `self` is a constructor: whether it gives `Self`, or `Result<Self, E>`.
fn made_by(sig: &Signature, managed: &Type) -> Option<Kind> {
    let ReturnType::Type(_, output) = &sig.output else { return None };
    if is_self(output, managed) {
        return Some(Kind::Constructor);
    }
    let made = result_of(output).map(|(made, _)| made);
    made.filter(|made| is_self(made, managed)).map(|_| Kind::TryConstructor)
}

fn is_self(ty: &Type, managed: &Type) -> bool {
    match ty {
        Type::Path(path) if path.path.is_ident("Self") => true,
        other => text::of(other.to_token_stream()) == text::of(managed.to_token_stream()),
    }
}

/// Input: `Result<T, E>`. Output: `T` and `E`.
fn result_of(ty: &Type) -> Option<(&Type, &Type)> {
    let Type::Path(ty) = ty else { return None };
    let last = ty.path.segments.last().filter(|last| last.ident == "Result")?;
    let PathArguments::AngleBracketed(args) = &last.arguments else { return None };
    let mut types = args.args.iter();
    match (types.next(), types.next(), types.next()) {
        (Some(GenericArgument::Type(made)), Some(GenericArgument::Type(error)), None) => {
            Some((made, error))
        }
        _ => None,
    }
}

/// Input: a public function. Output: its model, which is of use if there were no errors.
fn checked(
    function: &block::Function,
    kind: Kind,
    managed: &TokenStream,
    diag: &mut Diag,
) -> Function {
    let block::Function { attrs, vis, sig } = function;
    qualifiers(sig, diag);
    parameters(sig, diag);
    reserved(sig, diag);
    let args = arguments(sig, managed, diag);
    let error = error(sig, kind, managed, diag);
    let output = match kind {
        Kind::Constructor => quote!(()),
        // An error about `E` is to show `E`.
        Kind::TryConstructor => {
            quote_spanned!(error.span()=> ::core::result::Result<(), #error>)
        }
        Kind::Shared | Kind::Exclusive => result(sig, managed, diag),
    };
    let signature = signature(sig);
    let is_doc =
        |attr: &&Attribute| attr.path().is_ident("doc") || attr.path().is_ident("deprecated");
    Function {
        kind,
        ident: sig.ident.clone(),
        vis: vis.clone(),
        conditions: conditions::of(attrs),
        docs: attrs.iter().filter(is_doc).cloned().collect(),
        args,
        output,
        error,
        signature,
    }
}

fn qualifiers(sig: &Signature, diag: &mut Diag) {
    if let Some(keyword) = &sig.asyncness {
        let text = "a managed method can't be `async`: write an ordinary one; while it waits, other \
                    objects' calls go on";
        diag.error(keyword, text);
    }
    if let Safety::Unsafe(keyword) = &sig.safety {
        let text = "a managed method can't be `unsafe`: other processes call it without knowing its \
                    conditions; write a safe one that calls this one";
        diag.error(keyword, text);
    }
    if let Some(abi) = &sig.abi {
        diag.error(abi, "a managed method is an ordinary Rust function: remove the ABI");
    }
    if let Some(variadic) = &sig.variadic {
        let text = "a managed method has a fixed number of arguments: take a `Vec` instead";
        diag.error(variadic, text);
    }
}

fn parameters(sig: &Signature, diag: &mut Diag) {
    for param in &sig.generics.params {
        let text = match param {
            GenericParam::Lifetime(_) => {
                "a managed method's arguments and result go between processes, so they can't be \
                 borrowed: remove the lifetime and use owned values, such as `String`"
            }
            GenericParam::Type(_) | GenericParam::Const(_) => {
                "a managed method can't be generic, because it is found by its number: write one for \
                 each type that is needed"
            }
        };
        diag.error(param, text);
    }
}

/// The names that a handle needs for itself.
fn reserved(sig: &Signature, diag: &mut Diag) {
    const RESERVED: [(&str, &str); 3] = [
        ("on", "joins a batch"),
        ("is_poisoned", "tells whether a method has panicked"),
        ("clear_poison", "lets calls through again after a panic"),
    ];
    for (name, does) in RESERVED {
        if sig.ident == name {
            let text = format!(
                "each handle has a method `{name}`, which {does}: choose another name for this one"
            );
            diag.error(&sig.ident, &text);
        }
    }
}

fn arguments(sig: &Signature, managed: &TokenStream, diag: &mut Diag) -> Vec<(Ident, TokenStream)> {
    let mut args = Vec::new();
    let typed = sig.inputs.iter().filter_map(|arg| match arg {
        FnArg::Typed(arg) => Some(arg),
        FnArg::Receiver(_) => None,
    });
    for (index, arg) in typed.enumerate() {
        if index == MAX_ARGS {
            let text = "a managed method has at most 12 arguments: put some of them into a struct \
                        or a tuple";
            diag.error(arg, text);
        }
        let name = match &*arg.pat {
            Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none() => pat.ident.clone(),
            Pat::Wild(_) => format_ident!("argument_{}", index + 1),
            pat => {
                let text = "a managed method's argument has a plain name: take it apart in the body, \
                            with `let`";
                diag.error(pat, text);
                continue;
            }
        };
        sendable(&arg.ty, Role::Argument, diag);
        args.push((name, written_out(arg.ty.to_token_stream(), managed)));
    }
    args
}

/// Input: a constructor that gives `Result<Self, E>`. Output: `E`.
fn error(sig: &Signature, kind: Kind, managed: &TokenStream, diag: &mut Diag) -> TokenStream {
    match &sig.output {
        ReturnType::Type(_, output) if kind == Kind::TryConstructor => match result_of(output) {
            Some((_, error)) => {
                sendable(error, Role::Result, diag);
                written_out(error.to_token_stream(), managed)
            }
            None => TokenStream::new(),
        },
        _ => TokenStream::new(),
    }
}

fn result(sig: &Signature, managed: &TokenStream, diag: &mut Diag) -> TokenStream {
    let ReturnType::Type(_, output) = &sig.output else { return quote!(()) };
    if let Type::Never(never) = &**output {
        diag.error(never, "a managed method has a result that can be sent: leave the `-> !` out");
    }
    sendable(output, Role::Result, diag);
    written_out(output.to_token_stream(), managed)
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
                "a managed method's arguments come from another process, so they can't be \
                 borrowed: take {owned}"
            );
            diag.error(ty, &text);
        }
        (Part::Borrowed(ty, owned), Role::Result) => {
            let text = format!(
                "a managed method's result goes to another process, so it can't be borrowed: \
                 return {owned}"
            );
            diag.error(ty, &text);
        }
        (Part::ImplTrait(ty), Role::Argument) => {
            let text = "a managed method can't take `impl Trait`, which makes it generic: name the \
                        type";
            diag.error(ty, text);
        }
        (Part::ImplTrait(ty), Role::Result) => {
            let text = "a managed method can't return `impl Trait`: the other process has to know \
                        the type, so name it";
            diag.error(ty, text);
        }
        // It is written out.
        (Part::SelfType(_), _) => {}
    });
}

/// Input: `Vec<Self>`. Output: `Vec<Counter>`: in the generated handle, `Self` is another type.
fn written_out(tokens: TokenStream, managed: &TokenStream) -> TokenStream {
    let mut tokens = tokens.into_iter().peekable();
    let mut out = TokenStream::new();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(word) if word == "Self" => {
                let begins_path = matches!(tokens.peek(), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
                out.extend(if begins_path { quote!(<#managed>) } else { managed.clone() });
            }
            TokenTree::Group(group) => {
                let inner = written_out(group.stream(), managed);
                let mut written = proc_macro2::Group::new(group.delimiter(), inner);
                written.set_span(group.span());
                out.extend([TokenTree::Group(written)]);
            }
            other => out.extend([other]),
        }
    }
    out
}

/// Input: `pub fn add(&mut self, n: u64) -> u64`. Output: `fn(&mut self, u64) -> u64`.
fn signature(sig: &Signature) -> String {
    let args = sig.inputs.iter().map(|arg| match arg {
        FnArg::Receiver(receiver) => text::of(receiver.to_token_stream()),
        FnArg::Typed(arg) => text::of(arg.ty.to_token_stream()),
    });
    let args: Vec<_> = args.collect();
    let output = match &sig.output {
        ReturnType::Default => String::new(),
        ReturnType::Type(_, output) => format!(" -> {}", text::of(output.to_token_stream())),
    };
    format!("fn({}){output}", args.join(", "))
}
