//! How much memory this process holds, counted where it is allocated, and a limit on it.
//!
//! The engine's own accounting misses what functions build: `repeat('x', 2147483647)` is 2 GiB that no operator asked
//! for. So the process is limited as a whole. Over the limit it ends at once with a status that says why, because an
//! allocation cannot be refused half-way through somebody else's code; the gateway turns the status into an answer.

#![expect(
    unsafe_code,
    reason = "the trait of global allocators is unsafe; every call is passed on as it came"
)]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering::Relaxed};

/// The status of a process that needed more memory than it was given.
pub const OUT_OF_MEMORY_STATUS: i32 = 86;

/// What a thread may allocate or free before the process's count hears of it.
const UNREPORTED_BYTES: isize = 64 << 10;

static HELD: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

thread_local! {
    static UNREPORTED: Cell<isize> = const { Cell::new(0) };
}

/// An allocator that counts what another one gives.
#[derive(Debug)]
pub struct Counted<A>(pub A);

/// From now on the process may hold `bytes`.
pub fn limit(bytes: u64) {
    LIMIT.store(usize::try_from(bytes).unwrap_or(usize::MAX), Relaxed);
}

/// Starts a new peak at what is held now.
pub fn reset_peak() {
    PEAK.store(HELD.load(Relaxed), Relaxed);
}

/// The most that was held since the peak was reset, in bytes.
pub fn peak() -> u64 {
    u64::try_from(PEAK.load(Relaxed)).unwrap_or(0)
}

fn count(bytes: isize) {
    // A thread that is ending has no cell any more; its last bytes go straight to the process.
    let report = UNREPORTED
        .try_with(|cell| {
            let sum = cell.get() + bytes;
            if sum.abs() < UNREPORTED_BYTES {
                cell.set(sum);
                return 0;
            }
            cell.set(0);
            sum
        })
        .unwrap_or(bytes);
    if report == 0 {
        return;
    }
    let held = HELD.fetch_add(report, Relaxed) + report;
    if report > 0 {
        PEAK.fetch_max(held, Relaxed);
        if held > 0 && held.unsigned_abs() > LIMIT.load(Relaxed) {
            // SAFETY: ends the process without running anything of it, which is the point.
            unsafe { libc::_exit(OUT_OF_MEMORY_STATUS) }
        }
    }
}

// SAFETY: every call goes to the inner allocator unchanged; counting allocates nothing.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counted<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promise is passed on.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promise is passed on.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller's promise is passed on.
        unsafe { self.0.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.cast_signed() - layout.size().cast_signed());
        // SAFETY: the caller's promise is passed on.
        unsafe { self.0.realloc(pointer, layout, size) }
    }
}
