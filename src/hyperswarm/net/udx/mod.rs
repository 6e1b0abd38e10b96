//! UDX on sockets: batched UDP through quinn-udp, one task per socket, streams that are `AsyncRead + AsyncWrite`.
