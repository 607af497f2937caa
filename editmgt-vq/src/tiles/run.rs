use burn::tensor::{DType, Tensor};
use editmgt_core::{Error, Result};
use editmgt_kernels::BufferPool;

use super::area::{Area, Assembled};
use super::step::Step;

/// Sizes that bound the memory of a run in tiles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tiles {
    /// Side of a tile without its margin, in the pixels of each resolution.
    side: usize,
    /// Bytes of the stored activations: the one that tiles are computed from, and the one that they
    /// are put together to.
    stored_bytes: usize,
}

/// Bound of what is stored, in bytes: 2 GB. With the official codec's weights (0.6 GB), an image of
/// 24 megapixels (0.3 GB) and the activations of a tile (0.6 GB) that stays below 4 GB.
const STORED_BYTES: usize = 2_000_000_000;
/// Bytes stored for each pixel of a tile, so that smaller tiles take less memory in all: with 128
/// pixels 0.52 GB, less than two layers of 256 channels at 512x512, of which one is put together
/// from the other when an image of 1024x1024 is decoded.
const STORED_BYTES_OF_PIXEL: usize = 31 * 1024;

impl Tiles {
    /// Tiles of this side, with a bound of what is stored that fits it.
    pub(crate) fn of_side(side: usize) -> Self {
        let of_tile = side.saturating_mul(side).saturating_mul(STORED_BYTES_OF_PIXEL);
        Self::new(side, of_tile.min(STORED_BYTES))
    }

    #[cfg(test)]
    pub(super) fn stored_bytes(self) -> usize {
        self.stored_bytes
    }

    /// Tiles of at least one pixel.
    pub(crate) fn new(side: usize, stored_bytes: usize) -> Self {
        Self { side: side.max(1), stored_bytes }
    }
}

/// Mean and variance of each group of each image.
type Statistics = Vec<(f32, f32)>;

/// Runs units in tiles; see the module's documentation.
///
/// # Shapes
/// `[B, C, H, W]` to the units' channels and size.
///
/// # Errors
/// [`Error::Device`] if the statistics can't be read from the device.
pub(crate) fn run(units: &[Vec<Step<'_>>], input: Tensor<4>, tiles: Tiles) -> Result<Tensor<4>> {
    let mut stored = input;
    // Steps after what is stored, and the statistics of their norms.
    let mut pending: Vec<Step<'_>> = Vec::new();
    let mut known: Vec<Statistics> = Vec::new();
    let [_, mut channels, height, width] = stored.dims();
    let mut size = [height, width];
    for (index, unit) in units.iter().enumerate() {
        let before = size;
        for step in unit {
            size = step.size(size);
            channels = step.channels(channels);
        }
        let pixels = |[height, width]: [usize; 2]| height * width;
        let fits_a_tile = pixels(size).max(pixels(before)) <= tiles.side * tiles.side;
        if pending.is_empty() && fits_a_tile {
            // A pool for each piece of work: buffers of another piece have other sizes.
            stored = BufferPool::new().install(|| whole(unit, stored));
            continue;
        }
        for step in unit {
            if let Step::Norm(norm) = step {
                let statistics = gather(&pending, &known, &stored, norm.groups(), tiles)?;
                known.push(statistics);
            }
            pending.push(*step);
        }
        let [batch, ..] = stored.dims();
        let bytes = batch * channels * pixels(size) * stored.dtype().size();
        let stored_bytes = stored.shape().num_elements() * stored.dtype().size();
        let last = index + 1 == units.len();
        // While it is put together, what it is computed from is stored, too. If that is too large
        // by itself (an image in small tiles), what is no larger takes its place.
        let fits = bytes + stored_bytes <= tiles.stored_bytes;
        let shrinks = stored_bytes > tiles.stored_bytes && bytes <= stored_bytes;
        if last || fits || shrinks {
            stored = assemble(&pending, &known, &stored, tiles);
            pending.clear();
            known.clear();
        }
    }
    Ok(stored)
}

fn whole(steps: &[Step<'_>], x: Tensor<4>) -> Tensor<4> {
    let mut shortcut = None;
    steps.iter().fold(x, |x, step| step.apply(x, &mut shortcut, None))
}

/// Sizes of the input of each step, and of the result.
fn sizes(steps: &[Step<'_>], input: [usize; 2]) -> Vec<[usize; 2]> {
    let mut sizes = vec![input];
    for step in steps {
        sizes.push(step.size(sizes[sizes.len() - 1]));
    }
    sizes
}

/// The part `result` of what the steps make of `stored`.
fn tile(
    steps: &[Step<'_>],
    known: &[Statistics],
    stored: &Tensor<4>,
    result: &Area,
    sizes: &[[usize; 2]],
) -> Tensor<4> {
    let mut needed = vec![result.clone()];
    for (step, &size) in steps.iter().zip(sizes).rev() {
        needed.push(step.needs(&needed[needed.len() - 1], size));
    }
    needed.reverse();

    let mut known = known.iter();
    let mut area = needed[0].clone();
    let mut x = area.crop(stored.clone(), &Area::whole(sizes[0]));
    let mut shortcut = None;
    for (step, need) in steps.iter().zip(&needed) {
        // The margin shrinks from block to block. A resampling needs it cut: its phase depends on
        // the first pixel.
        if matches!(step, Step::Open | Step::Down(_) | Step::Up(_)) {
            x = need.crop(x, &area);
            area = need.clone();
        }
        let statistics = match step {
            Step::Norm(_) => known.next().map(Vec::as_slice),
            _ => None,
        };
        x = step.apply(x, &mut shortcut, statistics);
        area = step.gives(&area);
    }
    result.crop(x, &area)
}

/// The statistics, over the whole image, of what the steps make of `stored`.
fn gather(
    steps: &[Step<'_>],
    known: &[Statistics],
    stored: &Tensor<4>,
    groups: usize,
    tiles: Tiles,
) -> Result<Statistics> {
    let [batch, _, height, width] = stored.dims();
    let sizes = sizes(steps, [height, width]);
    let mut moments = vec![Moments::default(); batch * groups];
    for area in Area::tiles(sizes[steps.len()], tiles.side) {
        let (means, squares) = BufferPool::new().install(|| {
            let x = tile(steps, known, stored, &area, &sizes).cast(DType::F32);
            let [_, channels, height, width] = x.dims();
            let x = x.reshape([batch, groups, channels / groups * height, width]);
            let means = x.clone().mean_dim(3);
            (means.clone(), (x - means).square().sum_dim(3))
        });
        let [_, _, rows, _] = means.dims();
        let width = area.columns.len();
        let read = |values: Tensor<4>| {
            values
                .try_into_vec_as::<f32>()
                .map_err(|error| Error::device("reading the statistics of a norm", error))
        };
        let (means, squares) = (read(means)?, read(squares)?);
        for (row, (mean, squares)) in means.into_iter().zip(squares).enumerate() {
            moments[row / rows].merge(width as f64, mean.into(), squares.into());
        }
    }
    Ok(moments.iter().map(Moments::statistics).collect())
}

/// What the steps make of `stored`, put together from tiles.
fn assemble(
    steps: &[Step<'_>],
    known: &[Statistics],
    stored: &Tensor<4>,
    tiles: Tiles,
) -> Tensor<4> {
    let [_, _, height, width] = stored.dims();
    let sizes = sizes(steps, [height, width]);
    let size = sizes[steps.len()];
    let mut result = Assembled::new(size);
    for area in Area::tiles(size, tiles.side) {
        BufferPool::new().install(|| {
            let part = tile(steps, known, stored, &area, &sizes);
            result.put(area, part);
        });
    }
    result.finish()
}

/// Count, mean and sum of squared deviations; parts are combined as by Chan, Golub and LeVeque
/// (1983).
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn merge(&mut self, count: f64, mean: f64, squares: f64) {
        let apart = mean - self.mean;
        let total = self.count + count;
        self.squares += squares + apart * apart * self.count * count / total;
        self.mean += apart * count / total;
        self.count = total;
    }

    /// Mean and variance.
    fn statistics(&self) -> (f32, f32) {
        (self.mean as f32, (self.squares / self.count) as f32)
    }
}
