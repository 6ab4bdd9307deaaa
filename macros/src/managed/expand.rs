//! Writes the handle, and what the server needs. Nothing here can fail.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt as _;

use super::model::{Function, Kind, Model};
use crate::names;

/// Input: the model of
/// ```text
/// impl Counter {
///     pub fn new(start: u64) -> Self { … }
///     pub fn add(&mut self, n: u64) -> u64 { … }
/// }
/// ```
/// Output: the block, and the items that the functions below write.
///
/// The types of arguments and results have a bound in one place, in the user's own tokens: where the
/// constant of a function is made. So the compiler puts the one error about a type that can't be sent
/// right under that type.
pub(crate) fn expand(model: &Model) -> TokenStream {
    let Model { block, conditions, .. } = model;
    let items = [handle(model), traits(model), batch(model), server(model)].concat();
    let conditions = quote!(#(#conditions)*);
    // `pub` says what can be called from elsewhere, also where the module is private.
    quote! {
        #[allow(unreachable_pub)]
        #block
        #(#conditions #items)*
    }
}

/// Output:
/// ```text
/// pub struct CounterProxy(Proxy<Counter>);
/// impl CounterProxy {
///     const __CONSTRUCTOR_0: Call<Counter, (u64,), ()> = call_1::<Counter, u64, ()>(0, "new");
///     const __METHOD_0: Call<Counter, (u64,), u64> = call_1::<Counter, u64, u64>(0, "add");
///     pub fn on<'tx>(&'tx self, tx: &'tx Batch) -> CounterBatch<'tx> { … }
///     pub fn new(manager: &Manager, start: u64) -> Result<Self, ManagerError> {
///         manager.create(Self::__CONSTRUCTOR_0, &(start,))
///     }
///     pub fn add(&self, n: u64) -> Result<u64, ManagerError> {
///         self.0.call(Self::__METHOD_0, &(n,))
///     }
/// }
/// ```
fn handle(model: &Model) -> Vec<TokenStream> {
    let Model { proxy, batch, managed, text, .. } = model;
    let (root, private) = (model.krate.root(), model.krate.private());
    let calls = functions(model).map(|(number, function)| call(model, number, function));
    let direct = functions(model).map(|(number, function)| direct(model, number, function));
    let doc = format!(
        "The handle on a [`{text}`] in a manager's process: its methods are called there.\n\n\
         It can be cloned, and sent to other processes. The value lives as long as a handle on it does."
    );
    let on = "The same methods as part of a batch: see `Manager::batch`.";
    vec![
        quote! {
            #[doc = #doc]
            #[allow(dead_code, unreachable_pub, private_interfaces)]
            pub struct #proxy(#private::Proxy<#managed>);
        },
        quote! {
            #[allow(dead_code, unreachable_pub, private_interfaces, clippy::all, clippy::pedantic)]
            impl #proxy {
                #(#calls)*

                #[doc = #on]
                pub fn on<'tx>(&'tx self, tx: &'tx #root::Batch) -> #batch<'tx> {
                    #batch { proxy: &self.0, tx }
                }

                /// Whether calls fail since one has panicked while it was changing the value.
                ///
                /// # Errors
                /// The manager's process has gone.
                pub fn is_poisoned(&self) -> ::core::result::Result<bool, #root::ManagerError> {
                    self.0.is_poisoned()
                }

                /// Lets calls through again after a panic.
                ///
                /// # Errors
                /// The manager's process has gone.
                pub fn clear_poison(&self) -> ::core::result::Result<(), #root::ManagerError> {
                    self.0.clear_poison()
                }

                #(#direct)*
            }
        },
    ]
}

/// Output: what makes it a handle like others: conversions, clones, the way through serde.
fn traits(model: &Model) -> Vec<TokenStream> {
    let Model { proxy, managed, .. } = model;
    let (root, private) = (model.krate.root(), model.krate.private());
    let name = proxy.unraw().to_string();
    vec![
        quote! {
            impl #root::ManagedProxy for #proxy {
                fn fits(handle: &#private::Handle) -> bool {
                    <#private::Proxy<#managed> as #root::ManagedProxy>::fits(handle)
                }

                fn described() -> #private::Vec<#private::String> {
                    <#private::Proxy<#managed> as #root::ManagedProxy>::described()
                }

                fn maker() -> ::core::option::Option<#private::MakerName> {
                    <#private::Proxy<#managed> as #root::ManagedProxy>::maker()
                }

                fn from_handle(handle: #private::Handle) -> Self {
                    Self(#root::ManagedProxy::from_handle(handle))
                }

                fn as_handle(&self) -> &#private::Handle {
                    #root::ManagedProxy::as_handle(&self.0)
                }
            }
        },
        quote! {
            impl ::core::clone::Clone for #proxy {
                fn clone(&self) -> Self {
                    Self(::core::clone::Clone::clone(&self.0))
                }
            }
        },
        quote! {
            impl ::core::fmt::Debug for #proxy {
                fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    f.debug_tuple(#name).field(&self.0).finish()
                }
            }
        },
        quote! {
            impl #private::serde::Serialize for #proxy {
                fn serialize<S: #private::serde::Serializer>(
                    &self,
                    serializer: S,
                ) -> ::core::result::Result<S::Ok, S::Error> {
                    #private::serde::Serialize::serialize(&self.0, serializer)
                }
            }
        },
        quote! {
            impl<'de> #private::serde::Deserialize<'de> for #proxy {
                fn deserialize<D: #private::serde::Deserializer<'de>>(
                    deserializer: D,
                ) -> ::core::result::Result<Self, D::Error> {
                    #private::serde::Deserialize::deserialize(deserializer).map(Self)
                }
            }
        },
    ]
}

/// Output:
/// ```text
/// pub struct CounterBatch<'tx> { proxy: &'tx Proxy<Counter>, tx: &'tx Batch }
/// impl CounterBatch<'_> {
///     pub fn add(&self, n: u64) -> Later<u64> {
///         self.proxy.call_later(self.tx, CounterProxy::__METHOD_0, &(n,))
///     }
/// }
/// ```
fn batch(model: &Model) -> Vec<TokenStream> {
    let Model { proxy, batch, managed, .. } = model;
    let (root, private) = (model.krate.root(), model.krate.private());
    let methods = functions(model).filter(|(_, function)| is_method(function));
    let methods = methods.map(|(number, function)| later(model, number, function));
    let doc = format!("The methods of [`{proxy}`] as part of a batch: see [`{proxy}::on`].");
    let name = batch.unraw().to_string();
    vec![
        quote! {
            #[doc = #doc]
            #[derive(Clone, Copy)]
            #[allow(dead_code, unreachable_pub, private_interfaces)]
            pub struct #batch<'tx> {
                proxy: &'tx #private::Proxy<#managed>,
                tx: &'tx #root::Batch,
            }
        },
        quote! {
            #[allow(dead_code, unreachable_pub, private_interfaces, clippy::all, clippy::pedantic)]
            impl #batch<'_> {
                #(#methods)*
            }
        },
        quote! {
            impl ::core::fmt::Debug for #batch<'_> {
                fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    f.debug_tuple(#name).field(&self.proxy).finish()
                }
            }
        },
    ]
}

/// Output:
/// ```text
/// impl Managed for Counter {
///     type Proxy = CounterProxy;
///     const CLASS: Class<Self> = {
///         const METHODS: &[Method<Counter>] = &[
///             Method::new("add", "fn(&mut self, u64) -> u64", |slot, invocation| {
///                 slot.exclusive(CounterProxy::__METHOD_0, invocation, |this, (n,)| {
///                     Counter::add(this, n)
///                 })
///             }),
///         ];
///         Class::new("app::Counter", METHODS)
///     };
///     const KEPT: Option<Kept<Self>> = Some(Kept::<Counter>::whole());   // with `persist`
/// }
/// const _: () = {
///     const CONSTRUCTORS: &[Constructor] = &[
///         Constructor::new("new", "fn(u64) -> Self", |invocation| {
///             invocation.make(CounterProxy::__CONSTRUCTOR_0, |(start,)| Counter::new(start))
///         }),
///     ];
///     #[distributed_slice(MANAGED)]
///     static ENTRY: ManagedEntry =
///         ManagedEntry::new::<Counter>("app::Counter", "src/main.rs", 3, 4, CONSTRUCTORS);
/// };
/// ```
fn server(model: &Model) -> Vec<TokenStream> {
    let Model { proxy, managed, text, .. } = model;
    let (root, private) = (model.krate.root(), model.krate.private());
    let name = match &model.name {
        Some(name) => quote!(#name),
        None => quote!(::core::concat!(::core::module_path!(), "::", #text)),
    };
    let holder = match &model.name {
        // A second type of the same name in the same scope is a compile error.
        Some(name) => names::of_text("__PROCESSION_MANAGED_NAMED_", &name.value()),
        None => Ident::new("_", Span::call_site()),
    };
    let place = quote_spanned! {proxy.span()=>
        ::core::file!(), ::core::line!(), ::core::column!()
    };
    let kept = model.persist.then(|| {
        quote! {
            const KEPT: ::core::option::Option<#private::Kept<Self>> =
                ::core::option::Option::Some(#private::Kept::<#managed>::whole());
        }
    });
    let methods = functions(model).filter(|(_, function)| is_method(function));
    let methods = methods.map(|(number, function)| served(model, number, function));
    let constructors = functions(model).filter(|(_, function)| !is_method(function));
    let constructors = constructors.map(|(number, function)| served(model, number, function));
    vec![
        quote! {
            #[allow(deprecated, clippy::all, clippy::pedantic)]
            impl #root::Managed for #managed {
                type Proxy = #proxy;
                const CLASS: #private::Class<Self> = {
                    const METHODS: &[#private::Method<#managed>] = &[#(#methods),*];
                    #private::Class::new(#name, METHODS)
                };
                #kept
            }
        },
        quote! {
            #[doc(hidden)]
            #[allow(deprecated, clippy::all, clippy::pedantic)]
            const #holder: () = {
                const CONSTRUCTORS: &[#private::Constructor] = &[#(#constructors),*];
                #[#private::linkme::distributed_slice(#private::MANAGED)]
                #[linkme(crate = #private::linkme)]
                static __PROCESSION_ENTRY: #private::ManagedEntry =
                    #private::ManagedEntry::new::<#managed>(#name, #place, CONSTRUCTORS);
            };
        },
    ]
}

/// All functions, each with its number: constructors and methods are counted by themselves.
fn functions(model: &Model) -> impl Iterator<Item = (u16, &Function)> {
    (0..).zip(&model.constructors).chain((0..).zip(&model.methods))
}

fn is_method(function: &Function) -> bool {
    matches!(function.kind, Kind::Shared | Kind::Exclusive)
}

/// Output: the name of the constant that describes a function: `__METHOD_0`.
fn constant(number: u16, function: &Function) -> Ident {
    let kind = if is_method(function) { "METHOD" } else { "CONSTRUCTOR" };
    format_ident!("__{kind}_{number}")
}

/// Output: `const __METHOD_0: Call<Counter, (u64,), u64> = call_1::<Counter, u64, u64>(0, "add");`
fn call(model: &Model, number: u16, function: &Function) -> TokenStream {
    let Function { conditions, ident, output, .. } = function;
    let (managed, private) = (&model.managed, model.krate.private());
    let constant = constant(number, function);
    let describe = format_ident!("call_{}", function.args.len());
    let types: Vec<_> = function.args.iter().map(|(_, ty)| ty).collect();
    let name = ident.unraw().to_string();
    quote! {
        #(#conditions)*
        const #constant: #private::Call<#managed, (#(#types,)*), #output> =
            #private::#describe::<#managed, #(#types,)* #output>(#number, #name);
    }
}

/// Output: the function of the handle.
fn direct(model: &Model, number: u16, function: &Function) -> TokenStream {
    let root = model.krate.root();
    let Function { kind, conditions, vis, ident, args, output, .. } = function;
    let docs = docs(model, function);
    let constant = constant(number, function);
    let names: Vec<_> = args.iter().map(|(name, _)| name).collect();
    let types = args.iter().map(|(_, ty)| ty);
    let error = quote!(#root::ManagerError);
    // It has another name than any argument, whatever these are called.
    let manager = Ident::new("manager", Span::mixed_site());
    let (receiver, result, body) = match kind {
        Kind::Shared | Kind::Exclusive => {
            (quote!(&self), output.clone(), quote!(self.0.call(Self::#constant, &(#(#names,)*))))
        }
        Kind::Constructor => (
            quote!(#manager: &#root::Manager),
            quote!(Self),
            quote!(#manager.create(Self::#constant, &(#(#names,)*)).map(Self)),
        ),
        Kind::TryConstructor => {
            let failure = &function.error;
            (
                quote!(#manager: &#root::Manager),
                quote!(::core::result::Result<Self, #failure>),
                quote! {
                    #manager
                        .try_create(Self::#constant, &(#(#names,)*))
                        .map(|made| made.map(Self))
                },
            )
        }
    };
    quote! {
        #(#conditions)*
        #docs
        #vis fn #ident(
            #receiver,
            #(#names: #types,)*
        ) -> ::core::result::Result<#result, #error> {
            #body
        }
    }
}

/// Output: the method of the batch.
fn later(model: &Model, number: u16, function: &Function) -> TokenStream {
    let (root, proxy) = (model.krate.root(), &model.proxy);
    let Function { conditions, vis, ident, args, output, .. } = function;
    let docs = docs(model, function);
    let constant = constant(number, function);
    let names: Vec<_> = args.iter().map(|(name, _)| name).collect();
    let types = args.iter().map(|(_, ty)| ty);
    quote! {
        #(#conditions)*
        #docs
        #vis fn #ident(&self, #(#names: #types,)*) -> #root::Later<#output> {
            self.proxy.call_later(self.tx, #proxy::#constant, &(#(#names,)*))
        }
    }
}

/// Output: the method's own documentation, or a line that says whose it is.
fn docs(model: &Model, function: &Function) -> TokenStream {
    let Function { docs, ident, .. } = function;
    let is_documented = docs.iter().any(|attr| attr.path().is_ident("doc"));
    let line = (!is_documented).then(|| {
        let text = format!("`{}::{}`, in the manager's process.", model.text, ident.unraw());
        quote!(#[doc = #text])
    });
    quote!(#line #(#docs)*)
}

/// Output: the function as the server has it: an element of an array, which is there even if the function
/// isn't, so that the numbers of the others stay the same.
fn served(model: &Model, number: u16, function: &Function) -> TokenStream {
    let (managed, proxy, private) = (&model.managed, &model.proxy, model.krate.private());
    let Function { kind, conditions, ident, args, signature, .. } = function;
    let constant = constant(number, function);
    let name = ident.unraw().to_string();
    let names: Vec<_> =
        (0..args.len()).map(|i| Ident::new(&format!("a{i}"), Span::mixed_site())).collect();
    let (ty, body) = match kind {
        Kind::Shared | Kind::Exclusive => {
            let run = if *kind == Kind::Shared { "shared" } else { "exclusive" };
            let run = Ident::new(run, Span::call_site());
            let run = quote! {
                |slot, invocation| slot.#run(
                    #proxy::#constant,
                    invocation,
                    |this, (#(#names,)*)| <#managed>::#ident(this, #(#names),*),
                )
            };
            (quote!(Method::<#managed>), run)
        }
        Kind::Constructor | Kind::TryConstructor => {
            let run = if *kind == Kind::Constructor { "make" } else { "try_make" };
            let run = Ident::new(run, Span::call_site());
            let run = quote! {
                |invocation| invocation.#run(
                    #proxy::#constant,
                    |(#(#names,)*)| <#managed>::#ident(#(#names),*),
                )
            };
            (quote!(Constructor), run)
        }
    };
    let present = quote!(#private::#ty::new(#name, #signature, #body));
    if conditions.is_empty() {
        return present;
    }
    quote! {{
        #[allow(unused_variables)]
        let function = #private::#ty::absent();
        #(#conditions)*
        let function = #present;
        function
    }}
}
