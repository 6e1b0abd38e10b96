//! The machine as a whole: two endpoints that are handed each other's datagrams in virtual time.

mod limits;
mod pair;
mod rules;
mod transfer;
mod vectors;
mod weather;
mod window;
