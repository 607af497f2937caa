//! Row-wise work, distributed over rayon's threads.

use rayon::prelude::*;

use crate::buffers;
use crate::host::HostTensor;
use crate::lanes::vectorised;

/// Values of one task: enough to outweigh the cost of starting it, few enough to stay in cache.
const TASK_VALUES: usize = 1 << 15;

/// Row length for elementwise work.
pub(crate) const CHUNK: usize = 1 << 12;

/// Calls `change(index, values)` on each row of length `row` (the last may be shorter): in place if
/// the storage isn't shared, on a copy otherwise.
pub(crate) fn map_rows(
    mut x: HostTensor,
    row: usize,
    change: impl Fn(usize, &mut [f32]) + Sync,
) -> HostTensor {
    if let Some(values) = x.values_mut() {
        for_rows(values, row, change);
        return x;
    }
    let from = x.values();
    let mut values = buffers::take(from.len());
    for_rows(&mut values, row, |index, to| {
        to.copy_from_slice(&from[index * row..][..to.len()]);
        change(index, to);
    });
    HostTensor::new(values)
}

/// Replaces every value `x` by `change(x)`.
pub(crate) fn map(x: HostTensor, change: impl Fn(f32) -> f32 + Sync) -> HostTensor {
    map_rows(x, CHUNK, |_, chunk| chunk.iter_mut().for_each(|x| *x = change(*x)))
}

/// Calls `change(index, values)` on each row of length `row` (the last may be shorter).
pub(crate) fn for_rows(values: &mut [f32], row: usize, change: impl Fn(usize, &mut [f32]) + Sync) {
    if row == 0 {
        return;
    }
    let rows = (TASK_VALUES / row).max(1);
    let task = |(task, part): (usize, &mut [f32])| run_task(task * rows, row, part, &change);
    if values.len() <= TASK_VALUES {
        // Threads would cost more than they save.
        values.chunks_mut(rows * row).enumerate().for_each(task);
    } else {
        values.par_chunks_mut(rows * row).enumerate().for_each(task);
    }
}

/// A separate function, so that `change` is compiled once for each instruction set.
#[inline(never)]
fn run_task(first: usize, row: usize, part: &mut [f32], change: &impl Fn(usize, &mut [f32])) {
    vectorised(|| {
        for (index, row) in part.chunks_mut(row).enumerate() {
            change(first + index, row);
        }
    });
}
