use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use editmgt_core::{Error, KeyMap, Result};

use crate::run::{Checkpoint, CheckpointWriter, Stream, TrainError};

/// Latents on the host, `[count, channels]` row-major, and the nearest code of each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Latents {
    /// The latents.
    pub values: Vec<f32>,
    /// The id of the nearest code of each latent.
    pub ids: Vec<u32>,
}

impl Latents {
    /// Reads `[B, C, h, w]` latents back from their device.
    ///
    /// # Errors
    /// [`Error::Device`] when the read-back fails.
    pub(super) fn read(latents: Tensor<4>) -> Result<Vec<f32>> {
        let read = latents.permute([0, 2, 3, 1]).try_into_vec_as::<f32>();
        read.map_err(|e| Error::device("reading latents", e))
    }
}

/// A codebook learned by exponential moving averages of the latents assigned to each code:
/// `count = d * count + (1 - d) * n` and `sum = d * sum + (1 - d) * (sum of the n latents)` at each
/// step, and the code is `sum / count` (van den Oord et al., 2017, appendix).
///
/// Computed on the host (a few thousand short rows), so the result is the same on every device.
#[derive(Debug, Clone, PartialEq)]
pub struct Codebook {
    channels: usize,
    codes: Vec<f32>,
    counts: Vec<f32>,
    sums: Vec<f32>,
}

/// A code with a smaller count is not moved: the quotient of two tiny numbers is inaccurate.
const MIN_COUNT: f32 = 1e-6;

/// The codebook's state in a checkpoint; the codes themselves are saved with the codec.
#[derive(Module, Debug)]
struct State {
    counts: Param<Tensor<1>>,
    sums: Param<Tensor<2>>,
}

const NAME: &str = "codebook";

impl Codebook {
    /// `codes` are `[count, channels]`, row-major; all counts start at 0.
    pub fn new(codes: Vec<f32>, channels: usize) -> Self {
        let counts = vec![0.0; codes.len() / channels];
        Self { channels, sums: vec![0.0; codes.len()], codes, counts }
    }

    /// The codes, `[count, channels]` row-major.
    pub fn codes(&self) -> &[f32] {
        &self.codes
    }

    /// Moving average of the number of latents per step that are assigned to each code.
    pub fn counts(&self) -> &[f32] {
        &self.counts
    }

    /// The codes as a tensor `[count, channels]`.
    pub(super) fn tensor(&self, device: &Device) -> Tensor<2> {
        let shape = [self.counts.len(), self.channels];
        Tensor::from_data(TensorData::new(self.codes.clone(), shape), device)
    }

    /// Initialises the codes by k-means. `nearest` gives the id of the nearest code of a codebook
    /// for each of `vectors` (`[n, channels]`, n at least the number of codes); `per_step` is the
    /// number of latents in a training step.
    ///
    /// # Errors
    /// Those of `nearest`.
    pub fn start(
        &mut self,
        vectors: Vec<f32>,
        iterations: usize,
        per_step: usize,
        draws: &mut Stream,
        mut nearest: impl FnMut(&Self) -> Result<Vec<u32>>,
    ) -> Result<()> {
        let rows = vectors.len() / self.channels;
        self.seed_kmeans_plus_plus(&vectors, draws);
        let mut vectors = Latents { values: vectors, ids: Vec::new() };
        for iteration in 0..iterations {
            vectors.ids = nearest(self)?;
            self.update(&vectors, 0.0);
            // Not after the last iteration: a revived code would sit on a latent assigned to
            // another code.
            if iteration + 1 < iterations {
                self.revive_dead_codes(&vectors, 0.5, draws);
            }
        }
        let scale = per_step as f32 / rows as f32;
        self.counts.iter_mut().chain(&mut self.sums).for_each(|value| *value *= scale);
        Ok(())
    }

    /// k-means++ seeding (Arthur and Vassilvitskii, 2007): each code is drawn among the latents
    /// with a probability proportional to the squared distance to the nearest code so far.
    fn seed_kmeans_plus_plus(&mut self, vectors: &[f32], draws: &mut Stream) {
        let mut distances = vec![f32::INFINITY; vectors.len() / self.channels];
        let mut row = draws.below(distances.len());
        for code in 0..self.counts.len() {
            self.move_code(code, row_of(vectors, row, self.channels), 0.0);
            let code = row_of(&self.codes, code, self.channels);
            for (nearest, vector) in distances.iter_mut().zip(vectors.chunks(self.channels)) {
                *nearest = nearest.min(squared_distance(vector, code));
            }
            row = match Weighted::new(distances.iter().copied()) {
                Some(weighted) => weighted.draw(draws),
                // All latents are codes already.
                None => draws.below(distances.len()),
            };
        }
    }

    /// Moves the codes towards the latents of a step.
    pub fn update(&mut self, vectors: &Latents, decay: f32) {
        let mut counts = vec![0.0; self.counts.len()];
        let mut sums = vec![0.0; self.sums.len()];
        for (vector, &id) in vectors.values.chunks(self.channels).zip(&vectors.ids) {
            counts[id as usize] += 1.0;
            let sum = &mut sums[id as usize * self.channels..][..self.channels];
            sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
        }
        let average = |old: &mut f32, new: f32| *old = decay * *old + (1.0 - decay) * new;
        self.counts.iter_mut().zip(counts).for_each(|(old, new)| average(old, new));
        self.sums.iter_mut().zip(sums).for_each(|(old, new)| average(old, new));
        let rows = self.codes.chunks_mut(self.channels).zip(self.sums.chunks(self.channels));
        for ((code, sum), &count) in rows.zip(&self.counts) {
            if count > MIN_COUNT {
                code.iter_mut().zip(sum).for_each(|(code, sum)| *code = sum / count);
            }
        }
    }

    /// Dead-code revival: moves every code whose count is below `below` to a latent drawn with a
    /// probability proportional to the squared distance to its present code. Returns the number of
    /// revived codes.
    pub fn revive_dead_codes(
        &mut self,
        vectors: &Latents,
        below: f32,
        draws: &mut Stream,
    ) -> usize {
        let distances =
            vectors.values.chunks(self.channels).zip(&vectors.ids).map(|(vector, &id)| {
                squared_distance(vector, row_of(&self.codes, id as usize, self.channels))
            });
        // If all latents are codes already, there is no better position.
        let Some(weighted) = Weighted::new(distances) else { return 0 };
        let dead: Vec<_> =
            (0..self.counts.len()).filter(|&code| self.counts[code] < below).collect();
        for &code in &dead {
            let row = weighted.draw(draws);
            // Alive for now: the count decays unless latents are assigned to the code.
            self.move_code(code, row_of(&vectors.values, row, self.channels), below.max(1.0));
        }
        dead.len()
    }

    fn move_code(&mut self, code: usize, vector: &[f32], count: f32) {
        let range = code * self.channels..(code + 1) * self.channels;
        self.counts[code] = count;
        self.codes[range.clone()].copy_from_slice(vector);
        let sums = self.sums[range].iter_mut().zip(vector);
        sums.for_each(|(sum, value)| *sum = count * value);
    }

    pub(super) fn save(&self, to: &CheckpointWriter) -> Result<(), TrainError> {
        let device = Device::default();
        let shape = [self.counts.len(), self.channels];
        let counts = TensorData::new(self.counts.clone(), [shape[0]]);
        let sums = TensorData::new(self.sums.clone(), shape);
        let state = State {
            counts: Param::from_data(counts, &device),
            sums: Param::from_data(sums, &device),
        };
        to.module(NAME, &state, &KeyMap::default())
    }

    /// `codes` are those of the codec, which the checkpoint holds, too.
    pub(super) fn load(from: &Checkpoint, codes: Tensor<2>) -> Result<Self, TrainError> {
        let [count, channels] = codes.dims();
        let device = Device::default();
        let state = State {
            counts: Param::from_tensor(Tensor::zeros([count], &device)),
            sums: Param::from_tensor(Tensor::zeros([count, channels], &device)),
        };
        let state = from.module(NAME, state, &KeyMap::default())?;
        let doing = "reading a codebook";
        let read = |tensor: Tensor<1>| {
            tensor.try_into_vec_as::<f32>().map_err(|e| Error::device(doing, e))
        };
        Ok(Self {
            channels,
            codes: read(codes.flatten(0, 1))?,
            counts: read(state.counts.val())?,
            sums: read(state.sums.val().flatten(0, 1))?,
        })
    }
}

fn row_of(rows: &[f32], row: usize, channels: usize) -> &[f32] {
    &rows[row * channels..(row + 1) * channels]
}

fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Samples indices with given weights.
struct Weighted {
    cumulative: Vec<f64>,
}

impl Weighted {
    /// `None` when no weight is above 0.
    fn new(weights: impl Iterator<Item = f32>) -> Option<Self> {
        let mut total = 0.0;
        let mut add = |weight| {
            total += f64::from(weight);
            total
        };
        let cumulative: Vec<_> = weights.map(&mut add).collect();
        (total > 0.0).then_some(Self { cumulative })
    }

    fn draw(&self, draws: &mut Stream) -> usize {
        let total = self.cumulative[self.cumulative.len() - 1];
        let drawn = f64::from(draws.uniform()) * total;
        self.cumulative.partition_point(|&sum| sum <= drawn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Draws;

    /// Exhaustive search.
    fn nearest(codebook: &Codebook, vectors: &[f32]) -> Vec<u32> {
        let distance =
            |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum() };
        let channels = codebook.channels;
        let of = |vector: &[f32]| {
            let codes = codebook.codes.chunks(channels).map(|code| distance(vector, code));
            codes.enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0 as u32
        };
        vectors.chunks(channels).map(of).collect()
    }

    #[test]
    fn the_moving_average_by_hand() {
        let mut codebook = Codebook::new(vec![0.0, 0.0, 8.0, 8.0], 2);
        codebook.counts = vec![4.0, 2.0];
        codebook.sums = vec![0.0, 0.0, 16.0, 16.0];
        // Two latents at the first code, none at the second.
        let vectors = Latents { values: vec![1.0, 2.0, 3.0, -4.0], ids: vec![0, 0] };
        codebook.update(&vectors, 0.75);
        // Counts: 0.75 * 4 + 0.25 * 2 and 0.75 * 2; sums of the first: 0.25 * (4, -2).
        assert_eq!(codebook.counts, [3.5, 1.5]);
        assert_eq!(codebook.sums, [1.0, -0.5, 12.0, 12.0]);
        assert_eq!(codebook.codes, [1.0 / 3.5, -0.5 / 3.5, 8.0, 8.0]);
    }

    #[test]
    fn k_means_finds_clusters() {
        let centres = [[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [-10.0, -10.0]];
        let mut draws = Draws::new(1).stream("vectors", 0);
        let mut vectors = Vec::new();
        for _ in 0..50 {
            for centre in centres {
                vectors.extend(centre.map(|value: f32| value + 0.1 * draws.normal()));
            }
        }
        let mut codebook = Codebook::new(vec![0.0; 8], 2);
        let all = vectors.clone();
        let find = |codebook: &Codebook| Ok(nearest(codebook, &all));
        codebook.start(vectors, 12, 20, &mut draws, find).unwrap();
        let mut found: Vec<_> =
            codebook.codes.chunks(2).map(|c| [c[0].round(), c[1].round()]).collect();
        let mut expected = centres.to_vec();
        found.sort_by(|a, b| a.partial_cmp(b).unwrap());
        expected.sort_by(|a, b| a.partial_cmp(b).unwrap());
        assert_eq!(found, expected);
        // A quarter of the 20 latents of a step each.
        assert!(codebook.counts.iter().all(|&count| (count - 5.0).abs() < 1e-4), "{codebook:?}");
    }

    #[test]
    fn dead_codes_are_revived_where_codes_are_missing() {
        let mut codebook = Codebook::new(vec![0.0, 50.0, 60.0], 1);
        codebook.counts = vec![5.0, 0.001, 0.002];
        let vectors = Latents { values: vec![0.0, 0.0, 7.0, 0.0], ids: vec![0; 4] };
        let mut draws = Draws::new(1).stream("revive", 0);
        assert_eq!(codebook.revive_dead_codes(&vectors, 0.01, &mut draws), 2);
        assert_eq!(codebook.codes, [0.0, 7.0, 7.0]);
        assert_eq!(
            codebook.revive_dead_codes(&vectors, 0.01, &mut draws),
            0,
            "no code is dead now"
        );
        // All latents coincide with their codes: dead codes stay where they are.
        codebook.counts[2] = 0.0;
        let exact = Latents { values: vec![0.0, 7.0], ids: vec![0, 1] };
        assert_eq!(codebook.revive_dead_codes(&exact, 0.01, &mut draws), 0);
    }
}
