//! Managers that are reached through sockets, from programs of this machine or of others.
//!
//! ```text
//!  client process                              server process
//!  --------------                              --------------
//!  client.rs   connections, one request each    host.rs      the door, a thread for each connection
//!              proxies that it has   ---------> session.rs   what the client was given
//!                                               server.rs    answer, as for requests of the family
//! ```
//!
//! - Both have proved the key before anything is decoded; after that a client can reach the methods of the
//!   objects that it was given, those under public names, and the makers of managed values. No other code.
//! - An object travels as its number, which means something to one session only: `peer` says whose.
//! - A request is never sent twice. Whether one that was cut off was executed, nobody can know.

pub(crate) mod client;
pub(crate) mod host;
pub(crate) mod peer;
pub(crate) mod session;
pub(crate) mod wire;

#[cfg(test)]
mod tests;
