//! A buffer pool for the large intermediate results of a forward pass.
//!
//! The C library returns large blocks to the system and requests them again for the next layer: the
//! system clears their pages each time, which took a tenth of a pass. The layers of a network need
//! the same sizes again and again, so a kernel's buffers go to the pool of the pass and serve the
//! next kernel.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::scope::with_value;

/// Length of the smallest buffer that is pooled: 256 KiB. Allocators keep smaller blocks
/// themselves.
const MIN_POOLED_FLOATS: usize = 1 << 16;

/// Total length of the idle buffers of a pool, at most: 256 MiB.
const MAX_POOLED_FLOATS: usize = 1 << 26;

/// Requests after which an idle buffer is freed: those of two layers.
const MAX_IDLE_TAKES: usize = 64;

/// Large buffers that the kernels of a pass reuse.
///
/// A pool is a value: clones share its buffers, and with the last clone they are freed. Kernels use
/// the pool that is [installed](Self::install) on the thread that calls them, and allocate where
/// there is none, so passes on different threads share nothing.
///
/// The models of this workspace run each pass in [`BufferPool::current`]: by default in a pool of
/// that pass, so that nothing is kept after it; a caller that installs a pool around several passes
/// keeps the buffers between them.
///
/// A buffer is reused for requests of at least 7/8 of its size. One that is idle for a few layers
/// is freed, and all idle ones together are at most 256 MiB.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use editmgt_kernels::{BufferPool, gelu_tanh, silu};
///
/// let x = Tensor::<2>::random([512, 512], Distribution::Default, &Device::flex());
/// let y = BufferPool::new().install(|| gelu_tanh(silu(x)));
/// assert_eq!(y.dims(), [512, 512]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct BufferPool(Arc<Mutex<Pool>>);

thread_local! {
    /// The pool that [`BufferPool::install`] runs in.
    static CURRENT: RefCell<Option<BufferPool>> = const { RefCell::new(None) };
}

impl BufferPool {
    /// An empty pool.
    pub fn new() -> Self {
        Self::default()
    }

    /// The pool installed on this thread, or an empty one.
    pub fn current() -> Self {
        installed().unwrap_or_default()
    }

    /// Runs `pass` with this pool for the kernels that it calls on this thread.
    pub fn install<R>(&self, pass: impl FnOnce() -> R) -> R {
        with_value(|value| CURRENT.replace(value), Some(self.clone()), pass)
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        // No panic leaves the list of buffers half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn installed() -> Option<BufferPool> {
    // A buffer may outlive the thread-local value, when a thread ends.
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// An idle buffer, and the number of requests before it was returned.
type Idle = (usize, Vec<f32>);

#[derive(Debug, Default)]
struct Pool {
    /// Number of requests so far.
    taken: usize,
    /// The idle buffers, the oldest first.
    idle: VecDeque<Idle>,
}

impl Pool {
    /// The smallest buffer that fits, if there is one; and a buffer that was idle for too long,
    /// which the caller frees after it has released the lock.
    fn take(&mut self, count: usize) -> (Option<Vec<f32>>, Option<Idle>) {
        self.taken += 1;
        let fits = |size: &usize| (count..=count + count / 7).contains(size);
        let sizes = self.idle.iter().map(|(_, buffer)| buffer.capacity()).enumerate();
        let best = sizes.filter(|(_, size)| fits(size)).min_by_key(|(_, size)| *size);
        let found = best.and_then(|(index, _)| self.idle.remove(index));
        let stale = self.idle.pop_front_if(|(given, _)| self.taken - *given > MAX_IDLE_TAKES);
        (found.map(|(_, buffer)| buffer), stale)
    }

    /// Adds a buffer; returns the oldest ones above the limit, which the caller frees after it has
    /// released the lock.
    fn give(&mut self, buffer: Vec<f32>) -> Vec<Idle> {
        self.idle.push_back((self.taken, buffer));
        let mut sum = 0;
        let kept = self.idle.iter().rev().take_while(|(_, buffer)| {
            sum += buffer.capacity();
            sum <= MAX_POOLED_FLOATS
        });
        let excess = self.idle.len() - kept.count();
        self.idle.drain(..excess).collect()
    }
}

/// A buffer of `count` values with unspecified contents.
pub(crate) fn take(count: usize) -> Vec<f32> {
    if count < MIN_POOLED_FLOATS {
        return vec![0.0; count];
    }
    let Some(pool) = installed() else { return vec![0.0; count] };
    let (found, stale) = pool.lock().take(count);
    // Freed here, outside the lock: returning pages to the system takes long.
    drop(stale);
    match found {
        Some(mut buffer) => {
            buffer.resize(count, 0.0);
            buffer
        }
        None => vec![0.0; count],
    }
}

/// Returns a buffer to the installed pool, or frees it.
pub(crate) fn give_back(buffer: Vec<f32>) {
    if !(MIN_POOLED_FLOATS..=MAX_POOLED_FLOATS).contains(&buffer.capacity()) {
        return;
    }
    let Some(pool) = installed() else { return };
    let excess = pool.lock().give(buffer);
    // Freed here, outside the lock: returning pages to the system takes long.
    drop(excess);
}

/// Bytes of a cache line. Registers and rows of tiles have as many: one that begins within a line
/// takes two loads, which halves the speed of a product in bf16.
const LINE: usize = 64;

/// Numbers of 32 bits in a cache line.
const NUMBERS: usize = LINE / size_of::<f32>();

/// How many numbers are before the first one at the start of a cache line, less than [`NUMBERS`].
fn before_line<T>(values: &[T]) -> usize {
    // It may be unknown by its contract, in evaluations of constants.
    values.as_ptr().align_offset(LINE).min(NUMBERS)
}

/// A temporary buffer, returned to the pool when dropped. It starts at a cache line.
#[derive(Debug)]
pub(crate) struct Buffer {
    values: Vec<f32>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// A buffer of `count` values with unspecified contents.
    pub(crate) fn new(count: usize) -> Self {
        let values = take(count + NUMBERS);
        Self { start: before_line(&values), values, len: count }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        let mut copy = Self::new(self.len());
        copy.copy_from_slice(self);
        copy
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[self.start..][..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[self.start..][..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.values));
    }
}

/// Numbers of 32 bits that start at a cache line, reused by the tasks of a thread.
#[derive(Debug, Default)]
pub(crate) struct Lines<T>(Vec<T>);

impl<T: Copy + Default> Lines<T> {
    /// `count` numbers with unspecified contents.
    pub(crate) fn take(&mut self, count: usize) -> &mut [T] {
        if self.0.len() < count + NUMBERS {
            self.0.resize(count + NUMBERS, T::default());
        }
        let start = before_line(&self.0);
        &mut self.0[start..][..count]
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::host::HostTensor;

    fn idle_sizes(pool: &Pool) -> Vec<usize> {
        pool.idle.iter().map(|(_, buffer)| buffer.capacity()).collect()
    }

    #[test]
    fn take_returns_the_nearest_size_and_frees_stale_buffers() {
        let mut pool = Pool::default();
        for size in [800, 700, 1000] {
            assert!(pool.give(Vec::with_capacity(size)).is_empty());
        }
        // Larger than all, smaller than 7/8 of all; then the nearest.
        assert_eq!(pool.take(1001), (None, None));
        assert_eq!(pool.take(600), (None, None));
        assert_eq!(pool.take(699).0.map(|buffer| buffer.capacity()), Some(700));
        assert_eq!(idle_sizes(&pool), [800, 1000]);

        for _ in 3..MAX_IDLE_TAKES {
            assert_eq!(pool.take(1), (None, None));
        }
        let stale = pool.take(1).1.map(|(_, buffer)| buffer.capacity());
        assert_eq!((stale, idle_sizes(&pool)), (Some(800), vec![1000]));
    }

    #[test]
    fn give_frees_the_oldest_buffers_above_the_limit() {
        let mut pool = Pool::default();
        let third = MAX_POOLED_FLOATS / 3;
        let freed: Vec<usize> =
            (0..5).map(|_| pool.give(Vec::with_capacity(third)).len()).collect();
        assert_eq!((freed, idle_sizes(&pool)), (vec![0, 0, 0, 1, 1], vec![third; 3]));
    }

    #[test]
    fn storage_of_an_unshared_tensor_returns_to_the_installed_pool() {
        let pool = BufferPool::new();
        let size = MIN_POOLED_FLOATS + 4321;
        let tensor = || Tensor::<1>::ones([size], &Device::flex());
        pool.install(|| {
            let x = tensor();
            drop(HostTensor::take(x.clone()));
            assert!(pool.lock().idle.is_empty(), "the tensor is still in use");
            drop(HostTensor::take(x));
            assert_eq!(idle_sizes(&pool.lock()), [size]);
            assert_eq!(take(size).len(), size);
            assert!(pool.lock().idle.is_empty());
        });
        drop(HostTensor::take(tensor()));
        assert!(pool.lock().idle.is_empty(), "no pool is installed");
    }

    #[test]
    fn the_previous_pool_is_installed_again() {
        let (outer, inner) = (BufferPool::new(), BufferPool::new());
        let same = |a: &BufferPool, b: &BufferPool| Arc::ptr_eq(&a.0, &b.0);
        outer.install(|| {
            assert!(same(&BufferPool::current(), &outer));
            let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                inner.install(|| {
                    assert!(same(&BufferPool::current(), &inner));
                    std::panic::resume_unwind(Box::new(()));
                });
            }));
            assert!(unwound.is_err() && same(&BufferPool::current(), &outer));
        });
        assert!(installed().is_none());
    }

    #[test]
    fn buffers_start_at_cache_lines() {
        let mut lines = Lines::<u32>::default();
        for count in [1, 17, 1000, 100_000, 3] {
            let (buffer, lines) = (Buffer::new(count), lines.take(count));
            assert_eq!((buffer.len(), lines.len()), (count, count));
            assert_eq!(buffer.as_ptr().addr() % LINE, 0);
            assert_eq!(lines.as_ptr().addr() % LINE, 0);
        }
    }

    #[test]
    fn buffers_have_the_requested_length() {
        BufferPool::new().install(|| {
            let least = MIN_POOLED_FLOATS;
            for count in [least, least + 9, least - 1, least + 5, 3, 0] {
                let mut buffer = Buffer::new(count);
                assert_eq!(buffer.len(), count);
                buffer.fill(f32::NAN);
            }
        });
    }
}
