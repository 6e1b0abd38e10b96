//! UDX: reliable, congestion-controlled streams over UDP, wire-compatible with npm udx-native 1.21 (libudx).

pub mod congestion;
pub mod pacing;
