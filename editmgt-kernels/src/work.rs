//! Rows shared out over the threads.

use rayon::prelude::*;

use crate::buffers;
use crate::host::Host;
use crate::lanes::vectorised;

/// Numbers that one task works on: enough to outweigh its start, few enough to stay in cache.
const TASK: usize = 1 << 15;

/// A row of what has no rows of its own.
pub(crate) const PIECE: usize = 1 << 12;

/// Changes each row of `row` numbers (the last may be shorter) by `change(index, numbers)`: in place
/// where nobody else holds them, in a copy otherwise.
pub(crate) fn map_rows(mut x: Host, row: usize, change: impl Fn(usize, &mut [f32]) + Sync) -> Host {
    if let Some(numbers) = x.numbers_mut() {
        for_rows(numbers, row, change);
        return x;
    }
    let from = x.numbers();
    let mut numbers = buffers::take(from.len());
    for_rows(&mut numbers, row, |index, to| {
        to.copy_from_slice(&from[index * row..][..to.len()]);
        change(index, to);
    });
    Host::new(numbers)
}

/// Changes every number, [`map_rows`] with rows of no meaning.
pub(crate) fn map(x: Host, change: impl Fn(f32) -> f32 + Sync) -> Host {
    map_rows(x, PIECE, |_, piece| piece.iter_mut().for_each(|x| *x = change(*x)))
}

/// Gives each row of `row` numbers (the last may be shorter) to `change(index, numbers)`.
pub(crate) fn for_rows(numbers: &mut [f32], row: usize, change: impl Fn(usize, &mut [f32]) + Sync) {
    if row == 0 {
        return;
    }
    let rows = (TASK / row).max(1);
    let task = |(task, piece): (usize, &mut [f32])| run(task * rows, row, piece, &change);
    if numbers.len() <= TASK {
        // Threads would cost more than they save.
        numbers.chunks_mut(rows * row).enumerate().for_each(task);
    } else {
        numbers.par_chunks_mut(rows * row).enumerate().for_each(task);
    }
}

/// A function of its own, so that there is one place where `change` is compiled for the processor.
#[inline(never)]
fn run(first: usize, row: usize, piece: &mut [f32], change: &impl Fn(usize, &mut [f32])) {
    vectorised(|| {
        for (index, row) in piece.chunks_mut(row).enumerate() {
            change(first + index, row);
        }
    });
}
