//! The limit of the loops of matrix products, for benches: operands that are packed and in cache.

use std::hint::black_box;

use pulp::{Simd, WithSimd, bytemuck};

use crate::blocks;
use crate::intrinsics::{self, Bf16Dot, Bf16Tiles};
use crate::lanes::dispatch;
use crate::narrow::{Kernel, PAIR};
use crate::operands::Operands;
use crate::product::{DEPTH_BLOCK, ROW_BLOCK};
use crate::tile::{self, LeftStep, Tile, ZEROS, add_product};

/// What the innermost loops of products can reach at most: on each of rayon's threads, `passes`
/// products of a block of rows with one panel, both packed and in the thread's caches. The number
/// of operations that it did, two for each multiplication with an addition; `None` for operands
/// that the processor has no instructions for.
///
/// For benches, which show by it what packing, reading memory and writing results cost.
#[doc(hidden)]
pub fn loop_limit(operands: Operands, passes: usize) -> Option<u64> {
    let of_thread = match operands {
        Operands::Exact => {
            rayon::broadcast(|_| dispatch(Exact { passes }));
            2 * ROW_BLOCK * tile::COLUMNS * DEPTH_BLOCK * passes
        }
        Operands::Bf16 => {
            let kernel = Kernel::detect()?;
            rayon::broadcast(|_| bf16(kernel, passes));
            let steps = kernel.depth_block();
            2 * PAIR * blocks::ROW_BLOCK * intrinsics::COLUMNS * steps * passes
        }
        _ => return None,
    };
    Some((of_thread * rayon::current_num_threads()) as u64)
}

fn bf16(kernel: blocks::Kernel<Bf16Tiles, Bf16Dot>, passes: usize) {
    let (rows, steps) = (blocks::ROW_BLOCK, kernel.depth_block());
    let strips = vec![0x3F80_3F80; rows * steps];
    let strips: Vec<&[u32]> = strips.chunks_exact(kernel.rows() * steps).collect();
    let panel = vec![[0x3F80_3F80; intrinsics::COLUMNS]; steps];
    let mut sums = vec![[0.0; intrinsics::COLUMNS]; rows];
    for _ in 0..passes {
        kernel.products(black_box(&strips), black_box(&panel), &mut sums);
        black_box(&sums);
    }
}

/// The same in f32.
struct Exact {
    passes: usize,
}

impl WithSimd for Exact {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let strips = vec![1.0f32; ROW_BLOCK * DEPTH_BLOCK];
        let strips: &[LeftStep] = bytemuck::cast_slice(&strips);
        let panel = vec![[1.0f32; tile::COLUMNS]; DEPTH_BLOCK];
        let mut sums: Vec<Tile> = vec![ZEROS; ROW_BLOCK / tile::ROWS];
        for _ in 0..self.passes {
            let strips = black_box(strips).chunks_exact(DEPTH_BLOCK);
            for (strip, sums) in strips.zip(&mut sums) {
                add_product(simd, strip, black_box(&panel), sums);
            }
            black_box(&sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_its_operations() {
        let of_pass = loop_limit(Operands::Exact, 1).unwrap();
        assert!(of_pass > 0);
        assert_eq!(loop_limit(Operands::Exact, 3), Some(3 * of_pass));
        let kernel = Kernel::detect().is_some();
        assert_eq!(loop_limit(Operands::Bf16, 1).is_some(), kernel);
    }
}
