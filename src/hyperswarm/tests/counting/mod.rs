//! An allocator that counts, thread by thread.

// Each test program uses what it needs.
#![allow(dead_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes in use by this thread, and the most there were since the last reset.
    static IN_USE: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

struct Counting;

fn count(bytes: isize) {
    // During the end of a thread the counter may be gone; nothing is measured then.
    let _ = IN_USE.try_with(|in_use| {
        let (now, peak) = in_use.get();
        in_use.set((now + bytes, peak.max(now + bytes)));
    });
}

#[allow(unsafe_code)]
// SAFETY: every call is passed on unchanged to the system allocator; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the pointer came from `System` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes in use by this thread; below zero if it freed more of what others allocated.
pub(crate) fn in_use() -> isize {
    IN_USE.with(|in_use| in_use.get().0)
}

/// The most bytes allocated at once while `decode` runs.
pub(crate) fn peak(decode: impl FnOnce()) -> usize {
    let before = in_use();
    IN_USE.with(|in_use| in_use.set((before, before)));
    decode();
    let most = IN_USE.with(|in_use| in_use.get().1);
    // Never below the start.
    (most - before).unsigned_abs()
}
