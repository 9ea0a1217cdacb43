//! Host memory that is used again: fresh pages cost a fault and a fill each, more than many operators
//! that would write to them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Elements that may wait, all together: 128 MiB.
pub const WAITING: usize = 32 << 20;
/// Smaller ones are left to the allocator.
const SMALLEST: usize = 16 << 10;

/// How many times as long as needed a block may be. With less, a prediction's blocks do not fit each other,
/// and those that wait exceed the above; with much more, short needs take the long ones.
const LONGEST: usize = 4;

/// Set by [`poison`].
static POISON: AtomicBool = AtomicBool::new(false);

/// The longest waiting first.
static POOL: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// From now on memory comes full of NaN, for all of this process: an element that a kernel forgets to write
/// shows. For tests.
pub fn poison() {
    POISON.store(true, Ordering::Relaxed);
}

/// `len` elements of undefined (but initialised) contents.
pub fn take(len: usize) -> Vec<f32> {
    let mut data = unfilled(len);
    if POISON.load(Ordering::Relaxed) {
        data.fill(f32::NAN);
    }
    data
}

fn unfilled(len: usize) -> Vec<f32> {
    if len < SMALLEST {
        return vec![0.0; len];
    }
    let found = {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |v: &Vec<f32>| v.capacity() >= len && v.capacity() <= LONGEST * len;
        let candidates = pool.iter().enumerate().filter(|(_, v)| fits(v));
        let best = candidates.min_by_key(|(_, v)| v.capacity()).map(|(i, _)| i);
        best.map(|i| pool.remove(i))
    };
    // Rounded up to an eighth of a power of two, so that near sizes share memory.
    let size = len.next_multiple_of(len.next_power_of_two() / 8);
    let mut data = found.unwrap_or_else(|| vec![0.0; size]);
    data.resize(len, 0.0);
    data
}

/// Takes memory back.
pub fn give(data: Vec<f32>) {
    if data.capacity() < SMALLEST {
        return;
    }
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    pool.push(data);
    while pool.iter().map(Vec::capacity).sum::<usize>() > WAITING {
        pool.remove(0);
    }
}

/// Memory that goes back to the pool when dropped.
pub struct Pooled(Vec<f32>);

impl Pooled {
    pub fn new(data: Vec<f32>) -> Self {
        Self(data)
    }
}

impl std::ops::Deref for Pooled {
    type Target = Vec<f32>;

    fn deref(&self) -> &Vec<f32> {
        &self.0
    }
}

impl std::ops::DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Vec<f32> {
        &mut self.0
    }
}

impl Clone for Pooled {
    fn clone(&self) -> Self {
        Self(copy(&self.0))
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        give(std::mem::take(&mut self.0));
    }
}

/// A copy of a slice.
pub fn copy(data: &[f32]) -> Vec<f32> {
    let mut copy = take(data.len());
    copy.copy_from_slice(data);
    copy
}
