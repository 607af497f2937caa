//! Large buffers that come back.
//!
//! The C library gives large blocks back to the system, and gets them anew for the next layer: the system
//! has to clear their pages each time, which was a tenth of a pass. Within a pass the same sizes come again
//! and again, so buffers that kernels are done with wait here for the next ones.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Numbers of the smallest buffer that is worth keeping: 256 KiB. Allocators keep smaller blocks themselves.
const SMALLEST: usize = 1 << 16;

/// For how many other large buffers one waits to be used again: those of two layers.
const PATIENCE: usize = 64;

/// Numbers of all that wait, at most: 256 MiB.
const MOST: usize = 1 << 26;

static KEPT: Mutex<Kept> = Mutex::new(Kept::none());

/// A buffer that waits, and how many had been asked for when it came.
type Waiting = (usize, Vec<f32>);

#[derive(Debug)]
struct Kept {
    /// How many [`KeptBuffers`] there are.
    holders: usize,
    /// How many large buffers have been asked for.
    taken: usize,
    /// The ones that nobody uses, the oldest first.
    free: VecDeque<Waiting>,
}

/// What its methods take out is to be freed once nobody waits for the lock.
impl Kept {
    const fn none() -> Self {
        Self { holders: 0, taken: 0, free: VecDeque::new() }
    }

    /// One that fits, if there is one; and one that nobody wanted for long.
    fn take(&mut self, count: usize) -> (Option<Vec<f32>>, Option<Waiting>) {
        self.taken += 1;
        let fits = |size: &usize| (count..=count + count / 7).contains(size);
        let sizes = self.free.iter().map(|(_, buffer)| buffer.capacity()).enumerate();
        let best = sizes.filter(|(_, size)| fits(size)).min_by_key(|(_, size)| *size);
        let found = best.and_then(|(index, _)| self.free.remove(index));
        let stale = self.free.pop_front_if(|(given, _)| self.taken - *given > PATIENCE);
        (found.map(|(_, buffer)| buffer), stale)
    }

    /// The oldest ones go if they become too many; while none are kept, this one.
    fn give(&mut self, buffer: Vec<f32>) -> Vec<Waiting> {
        if self.holders == 0 {
            return vec![(self.taken, buffer)];
        }
        self.free.push_back((self.taken, buffer));
        let mut sum = 0;
        let fit = self.free.iter().rev().take_while(|(_, buffer)| {
            sum += buffer.capacity();
            sum <= MOST
        });
        let too_many = self.free.len() - fit.count();
        self.free.drain(..too_many).collect()
    }

    fn release(&mut self) -> VecDeque<Waiting> {
        self.holders -= 1;
        if self.holders == 0 { std::mem::take(&mut self.free) } else { VecDeque::new() }
    }
}

fn kept() -> MutexGuard<'static, Kept> {
    // Whatever panicked, a list of buffers is never half changed.
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Held by a pass through a network: as long as there is one, buffers that kernels of this process are done
/// with are used again. With the last one, all are freed.
#[derive(Debug)]
#[must_use = "buffers are kept for as long as it lives"]
pub struct KeptBuffers(());

/// Keeps large buffers for the next kernel until what it returns is dropped.
///
/// A buffer is used for what is at least 7/8 of its size. One that was not used for some layers is freed, and
/// those that wait are 256 MiB at the most.
pub fn keep_buffers() -> KeptBuffers {
    kept().holders += 1;
    KeptBuffers(())
}

impl Drop for KeptBuffers {
    fn drop(&mut self) {
        let freed = kept().release();
        drop(freed);
    }
}

/// So many numbers, of any value.
pub(crate) fn take(count: usize) -> Vec<f32> {
    if count < SMALLEST {
        return vec![0.0; count];
    }
    let (found, stale) = kept().take(count);
    drop(stale);
    match found {
        Some(mut buffer) => {
            buffer.resize(count, 0.0);
            buffer
        }
        None => vec![0.0; count],
    }
}

/// A buffer that nobody needs any more.
pub(crate) fn give_back(buffer: Vec<f32>) {
    if (SMALLEST..=MOST).contains(&buffer.capacity()) {
        let freed = kept().give(buffer);
        drop(freed);
    }
}

/// A buffer for the while of a kernel, or for what is laid out for several.
#[derive(Debug)]
pub(crate) struct Buffer(Vec<f32>);

impl Buffer {
    /// So many numbers, of any value.
    pub(crate) fn new(count: usize) -> Self {
        Self(take(count))
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.0));
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::host::Host;

    #[test]
    fn buffers_wait_for_one_of_their_size() {
        let mut kept = Kept { holders: 2, ..Kept::none() };
        let sizes = |kept: &Kept| -> Vec<usize> {
            kept.free.iter().map(|(_, buffer)| buffer.capacity()).collect()
        };
        for size in [800, 700, 1000] {
            assert!(kept.give(Vec::with_capacity(size)).is_empty());
        }
        // Too large or too small for each of them; then the nearest.
        assert_eq!(kept.take(1001), (None, None));
        assert_eq!(kept.take(600), (None, None));
        assert_eq!(kept.take(699).0.map(|buffer| buffer.capacity()), Some(700));
        assert_eq!(sizes(&kept), [800, 1000]);

        for _ in 3..PATIENCE {
            assert_eq!(kept.take(1), (None, None));
        }
        let stale = kept.take(1).1.map(|(_, buffer)| buffer.capacity());
        assert_eq!((stale, sizes(&kept)), (Some(800), vec![1000]), "nobody wanted it for long");

        let third = MOST / 3;
        let freed: Vec<usize> =
            (0..4).map(|_| kept.give(Vec::with_capacity(third)).len()).collect();
        assert_eq!((freed, sizes(&kept)), (vec![0, 0, 1, 1], vec![third; 3]), "the oldest go");

        assert_eq!(kept.release().len(), 0, "somebody else keeps them");
        assert_eq!(kept.release().len(), 3);
        assert!(kept.free.is_empty());
        assert_eq!(kept.give(Vec::with_capacity(third)).len(), 1, "nobody keeps any");
    }

    /// Checked at once: not that many others come in between.
    #[test]
    fn numbers_of_a_tensor_that_nobody_holds_become_a_buffer() {
        let _kept = keep_buffers();
        let waits = |size| kept().free.iter().any(|(_, buffer)| buffer.capacity() == size);
        let size = SMALLEST + 4321;
        let numbers = Tensor::<1>::ones([size], &Device::flex());
        drop(Host::take(numbers.clone()));
        assert!(!waits(size));
        drop(Host::take(numbers));
        assert!(waits(size));
    }

    /// Whatever other kernels do at the same time.
    #[test]
    fn a_buffer_has_the_size_that_was_asked_for() {
        let _kept = keep_buffers();
        for count in [SMALLEST, SMALLEST + 9, SMALLEST - 1, SMALLEST + 5, 3, 0] {
            let mut buffer = Buffer::new(count);
            assert_eq!(buffer.len(), count);
            buffer.fill(f32::NAN);
        }
    }
}
