//! The parts of a type that can't be sent between processes, as far as tokens show them. The rest is for
//! the compiler, which knows what the names stand for.

use proc_macro2::Ident;
use quote::ToTokens as _;
use syn::visit::Visit;
use syn::{Type, TypeImplTrait, TypePath, TypeReference};

/// A part that can't be sent, or needs a look.
pub(crate) enum Part<'ast> {
    /// `&str`, with what to take instead, quoted.
    Borrowed(&'ast TypeReference, String),
    ImplTrait(&'ast TypeImplTrait),
    /// The word `Self` that begins a path.
    SelfType(&'ast Ident),
}

/// Finds all of them, however deep they are.
pub(crate) fn find<'ast>(ty: &'ast Type, found: impl FnMut(Part<'ast>)) {
    Finder { found }.visit_type(ty);
}

struct Finder<F> {
    found: F,
}

impl<'ast, F: FnMut(Part<'ast>)> Visit<'ast> for Finder<F> {
    fn visit_type_reference(&mut self, ty: &'ast TypeReference) {
        (self.found)(Part::Borrowed(ty, owned_form(&ty.elem)));
    }

    fn visit_type_impl_trait(&mut self, ty: &'ast TypeImplTrait) {
        (self.found)(Part::ImplTrait(ty));
    }

    fn visit_type_path(&mut self, ty: &'ast TypePath) {
        let first = ty.path.segments.first().filter(|_| ty.path.leading_colon.is_none());
        if let Some(segment) = first.filter(|segment| segment.ident == "Self") {
            (self.found)(Part::SelfType(&segment.ident));
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
