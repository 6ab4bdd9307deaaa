//! The pattern of the built-in types: each method is written once, with its docs, and is there as the
//! server's method, as the proxy's, and as the batch's.

use std::time::{Duration, Instant};

/// Input: the names of the proxy and of its view of a batch, their parameters with bounds, the type of the
/// value in the server, and methods.
///
/// ```text
/// builtin! {
///     /// Docs of the proxy.
///     pub struct Dict<K, V>, DictBatch of Map<K, V>
///     where [K: Payload, V: Payload];
///
///     /// Docs of the method.
///     shared fn get[Q: Serialize + ?Sized](map, key: &Q => K) -> Option<V> where [K: Borrow<Q>] {
///         map.0.get(&key)
///     }
/// }
/// ```
///
/// - A `shared` method has the value as `&`, beside others, an `exclusive` one as `&mut`, alone. So has a
///   `lending` one.
/// - An argument `name: Type => Owned` is a `Type` where the method is called and an `Owned` in the server;
///   both have the same bytes. Without the arrow both are `Type`.
/// - The body of a shared or lending method may give what has the same bytes as the result: a borrowed one.
///
/// - Behind the bounds may stand `poisoned by f`: see [`Managed::POISON`](crate::manage::class::Managed); or
///   `kept as Type: f`, where `f` appends a value as that type to a snapshot: see
///   [`Kept::of`](crate::manage::keeper::Kept).
///
/// Output: the proxy, with what all proxies have; the view of a batch; the implementation of `Managed`.
macro_rules! builtin {
    (
        $(#[$doc:meta])*
        pub struct $Proxy:ident<$($P:ident),*>, $Batch:ident of $Value:ty
        where [$($bounds:tt)*] $(poisoned by $poison:ident)? $(kept as $Kept:ty: $keep:expr)?;
        $(
            $(#[$method_doc:meta])*
            $mode:ident fn $method:ident $([$($generics:tt)*])?
            ($this:ident $(, $arg:ident: $Arg:ty $(=> $Owned:ty)?)*) -> $Result:ty
            $(where [$($where:tt)*])?
            $body:block
        )*
    ) => {
        $(#[$doc])*
        pub struct $Proxy<$($P),*>(super::proxy::Proxy<$Value>);

        #[doc = concat!("The methods of a [`", stringify!($Proxy), "`] in a [`Batch`](super::Batch).")]
        pub struct $Batch<'b, $($P),*> {
            proxy: &'b $Proxy<$($P),*>,
            batch: &'b super::batch::Batch,
        }

        impl<$($P),*> $Proxy<$($P),*>
        where
            $($bounds)*
        {
            $(
                $(#[$method_doc])*
                ///
                /// # Errors
                /// See [`ManagerError`](super::ManagerError).
                pub fn $method $(<$($generics)*>)? (
                    &self
                    $(, $arg: $Arg)*
                ) -> Result<$Result, super::error::ManagerError>
                $(where $($where)*)?
                {
                    self.0.call_as(<$Value>::$method, &($($arg,)*))
                }
            )*

            /// The same methods, as a part of a batch: see [`Manager::batch`](super::Manager::batch).
            pub fn on<'b>(&'b self, batch: &'b super::batch::Batch) -> $Batch<'b, $($P),*> {
                $Batch { proxy: self, batch }
            }

            /// Whether calls fail since one has panicked while it was changing the value.
            ///
            /// # Errors
            /// See [`ManagerError`](super::ManagerError).
            pub fn is_poisoned(&self) -> Result<bool, super::error::ManagerError> {
                self.0.is_poisoned()
            }

            /// Lets calls through again after a panic.
            ///
            /// # Errors
            /// See [`ManagerError`](super::ManagerError).
            pub fn clear_poison(&self) -> Result<(), super::error::ManagerError> {
                self.0.clear_poison()
            }
        }

        impl<$($P),*> $Batch<'_, $($P),*>
        where
            $($bounds)*
        {
            $(
                #[doc = concat!(
                    "See [`", stringify!($Proxy), "::", stringify!($method), "`](",
                    stringify!($Proxy), "::", stringify!($method), ")."
                )]
                pub fn $method $(<$($generics)*>)? (
                    &self
                    $(, $arg: $Arg)*
                ) -> super::batch::Later<$Result>
                $(where $($where)*)?
                {
                    self.proxy.0.call_later_as(self.batch, <$Value>::$method, &($($arg,)*))
                }
            )*
        }

        const _: () = {
            #[allow(non_camel_case_types, reason = "they are named as the methods are")]
            enum Number {
                $($method,)*
            }

            /// The methods as both sides know them.
            #[allow(non_upper_case_globals, reason = "they are named as the methods are")]
            impl<$($P),*> $Value
            where
                $($bounds)*
            {
                $(
                    const $method: crate::manage::call::Call<
                        Self,
                        ($(crate::api::manager::builtin::owned!($Arg $(=> $Owned)?),)*),
                        $Result,
                    > = crate::manage::call::Call::of(Number::$method as u16, stringify!($method));
                )*
            }
        };

        impl<$($P),*> crate::manage::class::Managed for $Value
        where
            $($bounds)*
        {
            type Proxy = $Proxy<$($P),*>;

            $(const POISON: Option<fn(&Self) -> &std::sync::atomic::AtomicBool> = Some($poison);)?

            $(
                const KEPT: Option<crate::manage::keeper::Kept<Self>> =
                    Some(crate::manage::keeper::Kept::of::<$Kept>($keep));
            )?

            const CLASS: crate::manage::class::Class<Self> = crate::manage::class::Class::new(
                stringify!($Proxy),
                &[$(
                    crate::manage::class::Method::new(
                        stringify!($method),
                        stringify!(fn($($Arg),*) -> $Result),
                        |slot, invocation| {
                            let ($($arg,)*): (
                                $(crate::api::manager::builtin::owned!($Arg $(=> $Owned)?),)*
                            ) = invocation.args()?;
                            crate::api::manager::builtin::$mode!(slot, invocation, $this, $Result, $body)
                        },
                    ),
                )*],
            );
        }

        impl<$($P),*> super::proxy::ManagedProxy for $Proxy<$($P),*>
        where
            $($bounds)*
        {
            fn fits(handle: &crate::manage::handle::Handle) -> bool {
                handle.is_on::<$Value>()
            }

            fn described() -> Vec<String> {
                crate::manage::class::described::<$Value>()
            }

            fn maker() -> Option<crate::manage::maker::Name> {
                crate::manage::keeper::maker_of::<$Value>()
            }

            fn from_handle(handle: crate::manage::handle::Handle) -> Self {
                Self(super::proxy::Proxy::new(handle))
            }

            fn as_handle(&self) -> &crate::manage::handle::Handle {
                self.0.handle()
            }
        }

        impl<$($P),*> Clone for $Proxy<$($P),*> {
            fn clone(&self) -> Self {
                Self(self.0.clone())
            }
        }

        impl<$($P),*> std::fmt::Debug for $Proxy<$($P),*> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({:?})", stringify!($Proxy), self.0.handle())
            }
        }

        impl<$($P),*> std::fmt::Debug for $Batch<'_, $($P),*> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($Batch)).field("of", self.proxy).finish()
            }
        }

        impl<$($P),*> serde::Serialize for $Proxy<$($P),*> {
            fn serialize<Z: serde::Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
                self.0.serialize(serializer)
            }
        }

        impl<'de, $($P),*> serde::Deserialize<'de> for $Proxy<$($P),*>
        where
            $($bounds)*
        {
            fn deserialize<Z: serde::Deserializer<'de>>(deserializer: Z) -> Result<Self, Z::Error> {
                serde::Deserialize::deserialize(deserializer).map(Self)
            }
        }
    };
}

/// The type of an argument in the server.
macro_rules! owned {
    ($Arg:ty) => {
        $Arg
    };
    ($Arg:ty => $Owned:ty) => {
        $Owned
    };
}

/// Runs a method beside others; its result may be borrowed.
macro_rules! shared {
    ($slot:ident, $invocation:ident, $this:ident, $Result:ty, $body:block) => {{
        let guard = $slot.read()?;
        let $this = &*guard;
        $invocation.reply(&$body)
    }};
}

/// Runs a method that has the value alone.
macro_rules! exclusive {
    ($slot:ident, $invocation:ident, $this:ident, $Result:ty, $body:block) => {{
        let result: $Result = {
            let mut guard = $slot.write()?;
            let $this = &mut *guard;
            $body
        };
        $invocation.reply(&result)
    }};
}

/// Runs a method that has the value alone; its result may be borrowed.
macro_rules! lending {
    ($slot:ident, $invocation:ident, $this:ident, $Result:ty, $body:block) => {{
        let mut guard = $slot.write()?;
        let $this = &mut *guard;
        $invocation.reply(&$body)
    }};
}

/// When a time is over that begins now. None: never.
pub(super) fn deadline(limit: Option<Duration>) -> Option<Instant> {
    // What is too far off to be told is never.
    limit.and_then(|limit| Instant::now().checked_add(limit))
}

pub(super) use {builtin, exclusive, lending, owned, shared};
