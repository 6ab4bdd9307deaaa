//! The server that owns managed objects, and how processes call their methods.
//!
//! ```text
//!  client process                              server process
//!  --------------                              --------------
//!  api/manager       Dict::get
//!  handle.rs         Handle::call              encodes object, method, arguments
//!  client.rs         exchange  ------------->  server.rs    the leader finds it: next, execute
//!                    a pair of rings           requests.rs  what it asks for
//!                                              table.rs     the object
//!                                              class.rs     Slot: decode, lock, call, encode
//!                    wait      <-------------  caller.rs    answer
//! ```
//!
//! - `class` says what a managed type is to the server, `call` what one of its methods is to both sides,
//!   `registry` lists the types under `#[managed]`, `protocol` says how requests look as bytes.
//! - `front` is where a server is found, `turn` which of its threads serves, `rest` how both sides wait.
//! - `maker` makes values of built-in types, `afar` serves programs that come through sockets.
//! - `keeper` has the objects with names kept in a `snapshot`, from which the next server has them.
//! - `table` knows when an object dies; `waiting` is for methods that wait.

pub(crate) mod afar;
pub(crate) mod call;
mod caller;
pub(crate) mod class;
pub(crate) mod client;
pub(crate) mod front;
pub(crate) mod handle;
pub(crate) mod keeper;
pub(crate) mod maker;
pub(crate) mod protocol;
pub(crate) mod registry;
pub(crate) mod requests;
mod rest;
pub(crate) mod server;
mod snapshot;
pub(crate) mod table;
#[cfg(test)]
mod tests;
mod turn;
pub(crate) mod waiting;
