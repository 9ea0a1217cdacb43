//! Large blocks of memory begin on a line of the cache: vectors that straddle two lines take twice as
//! long, and cannot be streamed past the caches at all. And they lie in huge pages where the system has them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;

/// Smaller blocks are the system's.
const LARGE: usize = 16 << 10;
const LINE: usize = 64;
/// The system's blocks begin at multiples of it, so that there is room for a number before a block.
const LEAST: usize = 16;

/// The program's allocator: the system's, with the above.
pub struct Aligned;

// SAFETY: blocks are the system's, or lie inside one that is `LINE` longer; how far inside stands before them.
unsafe impl GlobalAlloc for Aligned {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match longer(layout) {
            Ok(Some(longer)) => unsafe { inside(System.alloc(longer), longer.size()) },
            Ok(None) => unsafe { System.alloc(layout) },
            Err(TooLong) => null_mut(),
        }
    }

    // Not `alloc` and a fill: the system has pages of zeros.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match longer(layout) {
            Ok(Some(longer)) => unsafe { inside(System.alloc_zeroed(longer), longer.size()) },
            Ok(None) => unsafe { System.alloc_zeroed(layout) },
            Err(TooLong) => null_mut(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match longer(layout) {
            Ok(Some(longer)) => unsafe {
                let skipped = block.sub(size_of::<usize>()).cast::<usize>().read();
                System.dealloc(block.sub(skipped), longer);
            },
            _ => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.size().max(size) < LARGE {
            return unsafe { System.realloc(block, layout, size) };
        }
        let Ok(wanted) = Layout::from_size_align(size, layout.align()) else {
            return null_mut();
        };
        unsafe {
            let moved = self.alloc(wanted);
            if !moved.is_null() {
                std::ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

struct TooLong;

/// The system's block for one that is to begin on a line; `None` where it need not.
fn longer(layout: Layout) -> Result<Option<Layout>, TooLong> {
    if layout.size() < LARGE || layout.align() > LEAST {
        return Ok(None);
    }
    let size = layout.size().checked_add(LINE).ok_or(TooLong)?;
    let longer = Layout::from_size_align(size, LEAST).map_err(|_| TooLong)?;
    Ok(Some(longer))
}

/// The first line inside a block of so many bytes, `LINE` more than needed.
///
/// # Safety
/// The block is null, or begins at a multiple of `LEAST`, and is unused.
unsafe fn inside(block: *mut u8, size: usize) -> *mut u8 {
    if block.is_null() {
        return block;
    }
    huge(block, size);
    let skipped = LINE - block.addr() % LINE;
    // SAFETY: 16 to 64 bytes are skipped, so the number fits before the line.
    unsafe {
        let line = block.add(skipped);
        line.sub(size_of::<usize>()).cast::<usize>().write(skipped);
        line
    }
}

/// Asks for huge pages: 512 times fewer faults when a block is first written, and fewer addresses to look up.
fn huge(block: *mut u8, size: usize) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        const HUGE: usize = 2 << 20;
        let skip = block.align_offset(PAGE);
        let bytes = size.saturating_sub(skip) / PAGE * PAGE;
        if bytes > HUGE {
            // SAFETY: the pages are inside the block; this is advice, and refusing it changes nothing.
            unsafe { libc::madvise(block.add(skip).cast(), bytes, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (block, size);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_keep_their_contents_and_large_ones_begin_on_a_line() {
        for (from, to) in [
            (1, 100),
            (LARGE - 1, LARGE),
            (LARGE, 9 * LARGE),
            (7 * LARGE + 3, 5),
        ] {
            for align in [1, 4, 16, 64, 4096] {
                let layout = Layout::from_size_align(from, align).unwrap();
                // SAFETY: every access is inside the block of that layout.
                unsafe {
                    let zeros = Aligned.alloc_zeroed(layout);
                    let block = Aligned.alloc(layout);
                    for i in 0..from {
                        assert_eq!(*zeros.add(i), 0);
                        *block.add(i) = i as u8;
                    }
                    Aligned.dealloc(zeros, layout);
                    let least = if from >= LARGE {
                        align.max(LINE)
                    } else {
                        align
                    };
                    assert_eq!(block.addr() % least, 0, "{from} {align}");
                    let block = Aligned.realloc(block, layout, to);
                    let layout = Layout::from_size_align(to, align).unwrap();
                    let least = if to >= LARGE { align.max(LINE) } else { align };
                    assert_eq!(block.addr() % least, 0, "{to} {align}");
                    assert!((0..from.min(to)).all(|i| *block.add(i) == i as u8));
                    Aligned.dealloc(block, layout);
                }
            }
        }
    }

    #[test]
    fn what_no_machine_has_is_refused() {
        let layout = Layout::from_size_align(isize::MAX as usize & !15, 16).unwrap();
        // SAFETY: nothing is touched.
        unsafe {
            assert!(Aligned.alloc(layout).is_null());
            assert!(Aligned.alloc_zeroed(layout).is_null());
        }
    }
}
