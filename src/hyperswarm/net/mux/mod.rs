//! Protomux on secret streams: channels whose messages are futures.
