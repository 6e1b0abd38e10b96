//! # kachery-p2p
//!
//! Scientists share content-addressed files peer to peer. A file has a name made of its SHA-1
//! (`sha1://HASH/label`); whoever has the file can provide it, whoever knows the name can load it.
//!
//! ## The rooms, and who may use whom
//!
//! An arrow points from what is used to who uses it; nothing goes the other way (`tests/layering.rs` checks).
//!
//! ```text
//! inside node:  transfer, legacy -> runtime/legacy -> runtime -> node
//! the crate:    hyperswarm, store -> node -> api -> cli -> bin
//! ```
//!
//! * [`limits`]: every cap a stranger could push against, with its unit and reason.
//! * [`hyperswarm`]: wire-compatible Hyperswarm, a package of its own in `src/hyperswarm/`; it knows nothing of
//!   kachery, and its front page draws its rooms.
//! * [`store`]: content-addressed files on disk, in the folder shared with the Python package `kachery`.
//! * [`node`]: what kachery means: identity, channels, seeking and providing, transfers. `node::transfer` decides what
//!   to ask of whom and knows neither protocol nor tasks; `node::legacy` is the message protocol of the original
//!   daemons, sans-io; `node::runtime` has the tasks and locks (find, load, download, disk, provide), and below it one
//!   adapter per protocol (`node::runtime::legacy`), chosen by the enum `Source`. What all of them name is in
//!   `node::peer`, `node::types` and `node::error`.
//! * [`api`]: HTTP for local clients: the original daemons' endpoints, the new ones under `/api/v1/`, the guard.
//! * [`cli`]: commands, output, progress, exit codes, configuration. `src/bin/` holds a few lines each.
//! * `fuzz`: the decoders of these rooms under mutated input (compiled for tests and the fuzz package only).
//!
//! Start reading at [`node::Node`] for what the program does, at [`hyperswarm::dht`] for how the network works.

pub mod api;
pub mod cli;
#[cfg(any(test, feature = "testkit"))]
pub mod fuzz;
pub mod limits;
pub mod node;
pub mod store;
