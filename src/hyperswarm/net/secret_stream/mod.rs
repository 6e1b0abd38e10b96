//! Secret streams on tokio: encrypted messages and bytes over TCP, UDX or any other ordered byte stream.
