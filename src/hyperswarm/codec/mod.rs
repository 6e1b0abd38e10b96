//! (room of codec)
