use std::collections::HashMap;

use burn::tensor::Device;
use editmgt_core::{Error, GridSize, VqCodec};
use image::RgbImage;
use serde::Serialize;

use super::PairSource;
use super::data::to_tensor;
use crate::run::{Metrics, TrainError};

/// Quality of a codec: reconstruction, codebook use, and consistency of its tokens under edits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CodecReport {
    /// Peak signal-to-noise ratio in dB, of the mean squared error over all images.
    pub psnr: f64,
    /// Codes that are used by at least one patch.
    pub live_codes: usize,
    /// Perplexity: `exp` of the entropy of the codes.
    pub perplexity: f64,
    /// Share of pairs of patches with equal pixels, at any position, that have equal tokens, 0..1;
    /// 1 if no two patches are equal.
    pub determinism: f64,
    /// Share of the tokens that differ between before and after although neither their patch nor
    /// one of its eight neighbours changed, 0..1.
    pub changed_outside: f64,
}

impl CodecReport {
    pub(super) fn metrics(&self) -> Metrics {
        Metrics::default()
            .with("psnr", self.psnr)
            .with("live_codes", self.live_codes as f64)
            .with("perplexity", self.perplexity)
            .with("determinism", self.determinism)
            .with("changed_outside", self.changed_outside)
    }
}

/// Measures a codec on pairs `0..pairs`.
///
/// # Errors
/// A pair that cannot be read, whose two images differ in size, or whose sides are not multiples of
/// the codec's downsampling.
pub fn measure(
    codec: &dyn VqCodec,
    source: &dyn PairSource,
    pairs: u64,
    device: &Device,
) -> Result<CodecReport, TrainError> {
    let spec = codec.spec();
    let mut tally = Tally { patch: spec.downsample_factor, ..Tally::default() };
    for index in 0..pairs {
        let pair = source.pair(index)?;
        let (before, after) = (&pair.before, &pair.after);
        if before.dimensions() != after.dimensions() {
            let message =
                format!("before {:?}, after {:?}", before.dimensions(), after.dimensions());
            return Err(TrainError::Data { index, message });
        }
        let images = to_tensor(&[before, after], device);
        let tokens = codec.encode(images.clone())?;
        let error = (codec.decode(&tokens)? - images).square().mean().try_into_scalar::<f32>();
        tally.errors += f64::from(error.map_err(|e| Error::device("reading an error", e))?);
        tally.add(before, tokens.image(0), tokens.size());
        tally.add(after, tokens.image(1), tokens.size());
        tally.compare([before, after], [tokens.image(0), tokens.image(1)], tokens.size());
    }
    Ok(tally.report(pairs))
}

#[derive(Default)]
struct Tally {
    /// Pixels along each side of a patch.
    patch: usize,
    errors: f64,
    /// How often each token occurs for each patch.
    patches: HashMap<Vec<u8>, HashMap<u32, u64>>,
    outside: u64,
    changed_outside: u64,
}

impl Tally {
    fn pixels(&self, image: &RgbImage, row: usize, column: usize) -> Vec<u8> {
        let (size, stride) = (self.patch, 3 * image.width() as usize);
        let line = |y: usize| {
            let start = (row * size + y) * stride + 3 * column * size;
            &image.as_raw()[start..start + 3 * size]
        };
        (0..size).flat_map(line).copied().collect()
    }

    fn add(&mut self, image: &RgbImage, tokens: &[u32], grid: GridSize) {
        for (position, &token) in tokens.iter().enumerate() {
            let pixels = self.pixels(image, position / grid.width, position % grid.width);
            *self.patches.entry(pixels).or_default().entry(token).or_default() += 1;
        }
    }

    fn compare(&mut self, images: [&RgbImage; 2], tokens: [&[u32]; 2], grid: GridSize) {
        let differs = |row, column| {
            let [before, after] = images.map(|image| self.pixels(image, row, column));
            before != after
        };
        let changed: Vec<bool> =
            (0..grid.len()).map(|i| differs(i / grid.width, i % grid.width)).collect();
        for (position, (before, after)) in tokens[0].iter().zip(tokens[1]).enumerate() {
            let (row, column) = (position / grid.width, position % grid.width);
            let rows = row.saturating_sub(1)..(row + 2).min(grid.height);
            let near = rows.into_iter().any(|row| {
                let columns = column.saturating_sub(1)..(column + 2).min(grid.width);
                changed[row * grid.width..][columns].contains(&true)
            });
            if !near {
                self.outside += 1;
                self.changed_outside += u64::from(before != after);
            }
        }
    }

    fn report(&self, pairs: u64) -> CodecReport {
        let mut codes = HashMap::<u32, u64>::new();
        let (mut agreeing, mut meetings) = (0u64, 0u64);
        let couples = |n: u64| n * n.saturating_sub(1) / 2;
        for tokens in self.patches.values() {
            meetings += couples(tokens.values().sum());
            agreeing += tokens.values().copied().map(couples).sum::<u64>();
            for (&token, &count) in tokens {
                *codes.entry(token).or_default() += count;
            }
        }
        let total: u64 = codes.values().sum();
        // Sorted, so that the sum does not depend on the order of a hash map.
        let mut counts: Vec<_> = codes.values().copied().collect();
        counts.sort_unstable();
        let entropy: f64 =
            counts.iter().map(|&n| n as f64 / total as f64).map(|p| -p * p.ln()).sum();
        let share = |part: u64, whole: u64, none: f64| match whole {
            0 => none,
            _ => part as f64 / whole as f64,
        };
        CodecReport {
            psnr: -10.0 * (self.errors / pairs as f64).log10(),
            live_codes: codes.len(),
            perplexity: entropy.exp(),
            determinism: share(agreeing, meetings, 1.0),
            changed_outside: share(self.changed_outside, self.outside, 0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};
    use editmgt_core::{CodecSpec, Result, TokenGrid};

    use super::*;
    use editmgt_world::EditPair;

    /// Test codec with 2x2 patches: a token is the red level of the patch's first pixel, plus that
    /// of the image's last pixel if `global`. Decodes to black.
    struct Reds {
        spec: CodecSpec,
        global: bool,
    }

    impl VqCodec for Reds {
        fn spec(&self) -> &CodecSpec {
            &self.spec
        }

        fn encode(&self, images: Tensor<4>) -> Result<TokenGrid> {
            let [batch, _, height, width] = images.dims();
            let values = images.try_into_vec_as::<f32>().unwrap();
            let mut ids = Vec::new();
            for red in values.chunks(3 * height * width).map(|image| &image[..height * width]) {
                let mark = if self.global { red[height * width - 1] } else { 0.0 };
                for row in 0..height / 2 {
                    ids.extend((0..width / 2).map(|column| {
                        ((red[2 * row * width + 2 * column] + mark) * 255.0).round() as u32
                    }));
                }
            }
            TokenGrid::new(batch, GridSize::new(height / 2, width / 2), ids)
        }

        fn decode(&self, tokens: &TokenGrid) -> Result<Tensor<4>> {
            let shape = [tokens.batch(), 3, tokens.size().height * 2, tokens.size().width * 2];
            Ok(Tensor::zeros(shape, &Device::flex()))
        }
    }

    fn pair(_: u64) -> std::result::Result<EditPair, TrainError> {
        // Eight by four pixels, so four by two patches, in grey 51; after, the last is grey 102.
        let before = RgbImage::from_pixel(8, 4, image::Rgb([51; 3]));
        let mut after = before.clone();
        for (x, y) in [(6, 2), (7, 2), (6, 3), (7, 3)] {
            after.put_pixel(x, y, image::Rgb([102; 3]));
        }
        let instruction = "make it lighter".into();
        Ok(EditPair { before, instruction, after, changed: None, category: None, phrase: None })
    }

    #[test]
    fn counts_by_hand() {
        let spec = CodecSpec { downsample_factor: 2, codebook_size: 256 };
        let local = Reds { spec: spec.clone(), global: false };
        let report = measure(&local, &pair, 2, &Device::flex()).unwrap();
        // 60 of 64 pixels are 0.2, the other four 0.4 away from black.
        let error = (60.0 * 0.04 + 4.0 * 0.16) / 64.0f64;
        assert!((report.psnr + 10.0 * error.log10()).abs() < 1e-4, "{report:?}");
        assert_eq!((report.live_codes, report.determinism), (2, 1.0));
        let p = 1.0 / 16.0f64;
        let perplexity = (-(p * p.ln() + (1.0 - p) * (1.0 - p).ln())).exp();
        assert!((report.perplexity - perplexity).abs() < 1e-9, "{report:?}");
        assert_eq!(report.changed_outside, 0.0);

        let global = Reds { spec, global: true };
        let report = measure(&global, &pair, 1, &Device::flex()).unwrap();
        // Of the patches in grey 51, eight have token 102 and seven 153.
        assert_eq!(report.determinism, (28.0 + 21.0) / 105.0);
        // The two left columns are not adjacent to the change, and all of their tokens change.
        assert_eq!(report.changed_outside, 1.0);
        assert_eq!(report.live_codes, 3);
    }

    #[test]
    fn rejects_images_of_two_sizes() {
        let spec = CodecSpec { downsample_factor: 2, codebook_size: 256 };
        let odd = |index| pair(index).map(|pair| EditPair { after: RgbImage::new(2, 2), ..pair });
        let codec = Reds { spec, global: false };
        let error = measure(&codec, &odd, 1, &Device::flex()).unwrap_err();
        assert!(matches!(error, TrainError::Data { index: 0, .. }), "{error}");
    }
}
