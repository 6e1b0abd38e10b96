//! Protomux: many message channels over one message stream, wire-compatible with npm protomux 3.12.
