//! The machine as a whole: two endpoints that are handed each other's datagrams in virtual time.

mod budget;
mod hostile;
mod limits;
mod operations;
mod recovery;
mod relay;
mod rules;
mod sockets;
mod transfer;
mod vectors;
mod weather;
mod window;
