//! An allocator that does not give up at once. Where an allocation fails the standard library ends the process; what fails now may be had
//! in a moment, because the rest of the process gives back what it can as soon as it hears of it (safety.md 177).

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::sleep;
use std::time::Duration;

/// Between two tries, and how many there are: 3 s in all, in which nobody takes the thread for stuck.
const PAUSE: Duration = Duration::from_millis(5);
const TRIES: u32 = 600;

static FAILED: AtomicU64 = AtomicU64::new(0);

/// Allocations so far that could not be had at once.
pub fn failed() -> u64 {
    FAILED.load(Relaxed)
}

/// Asks `A` again for what it could not give.
#[derive(Debug)]
pub struct Patient<A>(pub A);

// SAFETY: every call goes to `A`, an allocator, with the arguments it came with, and what is returned is what `A` returned. A call that
// is repeated had failed: it allocated nothing, and a block that was to be reallocated is still the caller's.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Patient<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps to the contract of `alloc`.
        patiently(|| unsafe { self.0.alloc(layout) })
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller gives a block that came from `A`, through us.
        unsafe { self.0.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps to the contract of `alloc_zeroed`.
        patiently(|| unsafe { self.0.alloc_zeroed(layout) })
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller gives a block that came from `A`, through us; after a failure it still has it.
        patiently(|| unsafe { self.0.realloc(block, layout, size) })
    }
}

#[inline]
fn patiently(ask: impl Fn() -> *mut u8) -> *mut u8 {
    let got = ask();
    if got.is_null() { again(&ask) } else { got }
}

/// Null only if it could not be had for all that time.
#[cold]
fn again(ask: &dyn Fn() -> *mut u8) -> *mut u8 {
    FAILED.fetch_add(1, Relaxed);
    for _ in 0..TRIES {
        let got = ask();
        if !got.is_null() {
            return got;
        }
        sleep(PAUSE);
    }
    std::ptr::null_mut()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::System;
    use std::sync::atomic::AtomicU32;

    /// Fails as often as it is told.
    struct Failing(AtomicU32);

    impl Failing {
        fn fails(&self) -> bool {
            self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
        }
    }

    // SAFETY: what it gives is the system's.
    unsafe impl GlobalAlloc for Failing {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: as for `System`.
            if self.fails() { std::ptr::null_mut() } else { unsafe { System.alloc(layout) } }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            // SAFETY: as for `System`.
            unsafe { System.dealloc(block, layout) }
        }
    }

    #[test]
    fn what_fails_is_asked_for_again_and_counted_once() {
        let (patient, layout) = (Patient(Failing(AtomicU32::new(0))), Layout::new::<[u64; 8]>());
        let before = failed();
        // SAFETY: the layout has a size; each block is freed with the layout it has.
        unsafe {
            let first = patient.alloc(layout);
            assert!(!first.is_null() && failed() == before);
            first.write_bytes(7, layout.size());
            patient.0.0.store(3, Relaxed);
            let grown = patient.realloc(first, layout, 2 * layout.size());
            assert!(!grown.is_null() && failed() == before + 1);
            assert_eq!(std::slice::from_raw_parts(grown, layout.size()), [7; 64]);
            patient.dealloc(grown, Layout::new::<[u64; 16]>());
        }
    }
}
