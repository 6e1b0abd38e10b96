//! Body of the fuzz target of this room.

use std::time::Duration;

use super::{legacy, v1};

/// `data` is the body of a request, read in every way that there is. True if anything could be made of it.
pub fn bodies(data: &[u8]) -> bool {
    let key = legacy::object(data).ok().and_then(|request| legacy::file_key(&request));
    let search = v1::search(data, Duration::ZERO).ok();
    legacy::channel_name(data).is_ok() | v1::channel(data).is_ok() | key.is_some() | search.is_some()
}
