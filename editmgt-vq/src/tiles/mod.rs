//! Encoder and decoder in tiles: the same result as for the whole image, in bounded memory.
//!
//! Convolutions and resampling are local: a tile with a margin of a few pixels gives the pixels
//! that the whole image would. Group norms are not: their statistics are of the whole image. So the
//! norms are resolved in order. For each, all tiles are computed up to it and its mean and variance
//! gathered; then it is a pointwise operation with known numbers, and the next one can be gathered.
//!
//! ```text
//! stored ── conv ── norm 1 ── conv ── norm 2 ── add ──► stored, if it fits in memory
//!    │                 │                │
//!    ├── tiles ──► gather 1             │
//!    ├── tiles ──── known 1 ──────► gather 2
//!    └── tiles ──── known 1 ─────── known 2 ──────► tiles of the result
//! ```
//!
//! What a unit (a residual block or a resampling) gives is stored if it fits in the memory for it
//! ([`Tiles::stored_bytes`]); if not, the next norm is gathered from what was stored before. That
//! repeats work: memory is bounded, time is not linear in the number of layers. Units at
//! resolutions that fit in one tile are computed whole.

mod area;
mod run;
mod step;

pub(crate) use area::{Area, Assembled};
pub(crate) use run::{Tiles, run};
pub(crate) use step::{Step, largest_activation, units};

#[cfg(test)]
mod tests;
