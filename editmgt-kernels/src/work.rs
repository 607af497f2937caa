//! Row-wise work, distributed over rayon's threads.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::buffers;
use crate::host::HostTensor;
use crate::lanes::dispatch;

/// Values of one task: enough to outweigh the cost of starting it, few enough to stay in cache.
const TASK_VALUES: usize = 1 << 15;

/// Row length for elementwise work.
pub(crate) const CHUNK: usize = 1 << 12;

/// What happens to each row, compiled for each instruction set: see [`dispatch`].
pub(crate) trait RowChange: Sync {
    /// Changes row `index`. Implementations are `#[inline(always)]`.
    fn change(&self, index: usize, row: &mut [f32]);
}

/// A function of single values, compiled for each instruction set: see [`dispatch`].
pub(crate) trait Elementwise: Sync {
    /// The function. Implementations are `#[inline(always)]`.
    fn of(&self, x: f32) -> f32;
}

/// Changes each row of length `row` (the last may be shorter): in place if the storage isn't
/// shared, on a copy otherwise.
pub(crate) fn map_rows(mut x: HostTensor, row: usize, change: impl RowChange) -> HostTensor {
    if let Some(values) = x.values_mut() {
        for_rows(values, row, change);
        return x;
    }
    let from = x.values();
    let mut values = buffers::take(from.len());
    for_rows(&mut values, row, Copied { from, row, change });
    HostTensor::new(values)
}

/// Changes a copy of each row.
struct Copied<'a, C> {
    from: &'a [f32],
    row: usize,
    change: C,
}

impl<C: RowChange> RowChange for Copied<'_, C> {
    #[inline(always)]
    fn change(&self, index: usize, to: &mut [f32]) {
        to.copy_from_slice(&self.from[index * self.row..][..to.len()]);
        self.change.change(index, to);
    }
}

/// Replaces every value `x` by `function.of(x)`.
pub(crate) fn map(x: HostTensor, function: impl Elementwise) -> HostTensor {
    map_rows(x, CHUNK, Each(function))
}

struct Each<F>(F);

impl<F: Elementwise> RowChange for Each<F> {
    #[inline(always)]
    fn change(&self, _: usize, row: &mut [f32]) {
        for x in row {
            *x = self.0.of(*x);
        }
    }
}

/// Changes each row of length `row` (the last may be shorter).
pub(crate) fn for_rows(values: &mut [f32], row: usize, change: impl RowChange) {
    if row == 0 {
        return;
    }
    let rows = (TASK_VALUES / row).max(1);
    let task = |(task, part): (usize, &mut [f32])| {
        dispatch(Rows { first: task * rows, row, part, change: &change });
    };
    if values.len() <= TASK_VALUES {
        // Threads would cost more than they save.
        values.chunks_mut(rows * row).enumerate().for_each(task);
    } else {
        values.par_chunks_mut(rows * row).enumerate().for_each(task);
    }
}

/// Some rows, from row `first` on.
struct Rows<'a, C> {
    first: usize,
    row: usize,
    part: &'a mut [f32],
    change: &'a C,
}

impl<C: RowChange> WithSimd for Rows<'_, C> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (index, row) in self.part.chunks_mut(self.row).enumerate() {
            self.change.change(self.first + index, row);
        }
    }
}
