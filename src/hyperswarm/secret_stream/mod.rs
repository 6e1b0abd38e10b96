//! Encrypted message streams over any ordered byte stream, wire-compatible with npm @hyperswarm/secret-stream 6.9.
