//! (room of testkit)
