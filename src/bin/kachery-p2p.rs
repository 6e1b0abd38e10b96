//! The `kachery-p2p` command.
fn main() {}
