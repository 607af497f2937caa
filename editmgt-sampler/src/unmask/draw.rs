//! Draws a code for each undecided position and reads its probability: the only part of a step that
//! runs on the device.

use burn::tensor::activation::softmax;
use burn::tensor::{Device, FloatDType, Int, Tensor};
use editmgt_core::{Error, Result, Upload, read_back};

/// How the code of a position is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Code {
    /// It is given: the photo's token, or a replayed draw.
    Given(u32),
    /// It is drawn with this uniform in [0, 1).
    Drawn(f32),
}

/// A position (row-major over the batch) that needs a code.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pick {
    pub(super) position: usize,
    pub(super) code: Code,
}

/// A code and its probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Picked {
    pub(super) code: u32,
    pub(super) probability: f32,
}

/// Resolves picks, in ascending order of positions, for `[B, N, V]` logits of any float type. The
/// softmax is computed in f32, and only for positions with a pick. One upload and one read-back.
///
/// # Errors
/// [`Error::TokenOutOfRange`] for a given id that is not a codebook index, [`Error::Value`] for
/// logits that are NaN, [`Error::Device`] if the device fails.
pub(super) fn pick(logits: Tensor<3>, picks: &[Pick]) -> Result<Vec<Picked>> {
    if picks.is_empty() {
        return Ok(Vec::new());
    }
    let [batch, n, limit] = logits.dims();
    for pick in picks {
        match pick.code {
            Code::Given(id) if id as usize >= limit => {
                return Err(Error::TokenOutOfRange { id, position: pick.position, limit });
            }
            _ => {}
        }
    }
    if limit >= LARGEST_CODEBOOK {
        return Err(Error::value("codebook size", "below 2^24", limit));
    }
    let mut logits = logits.reshape([batch * n, limit]);
    let sent = SentPicks::new(picks, picks.len() < batch * n, &logits.device())?;
    if let Some(rows) = sent.rows.clone() {
        logits = logits.select(0, rows);
    }
    let logits = logits.cast(FloatDType::F32);
    let numbers = numbers(&logits);
    let probabilities = softmax(logits, 1);
    let codes = codes(&probabilities, sent);
    let probabilities = probabilities.gather(1, codes.clone());
    let columns = vec![
        numbers.float().cast(FloatDType::F32),
        codes.float().cast(FloatDType::F32),
        probabilities,
    ];
    let picked = read_back(Tensor::cat(columns, 1), "reading the drawn tokens")?;
    let (picked, _) = picked.as_chunks::<3>();
    check_numbers(picks, picked.iter().map(|&[numbers, ..]| limit - numbers as usize))?;
    let picked = picks.iter().zip(picked);
    picked.map(|(pick, &[_, code, probability])| checked(pick, code as i64, probability)).collect()
}

/// What the device needs to know of the picks.
struct SentPicks {
    /// The rows of the logits with a pick, `[R]`; `None`: all.
    rows: Option<Tensor<1, Int>>,
    /// The given codes, [`DRAWN`] for others, `[R, 1]`; `None`: all are drawn.
    given: Option<Tensor<2, Int>>,
    /// The uniforms of drawn codes, 0 for others, `[R, 1]` in f32; `None`: no code is drawn.
    uniforms: Option<Tensor<2>>,
}

/// The id of a code that isn't given, above every codebook.
const DRAWN: usize = LARGEST_CODEBOOK - 1;
/// Ids below this are exact in f32, in which they are transferred.
const LARGEST_CODEBOOK: usize = 1 << 24;

impl SentPicks {
    fn new(picks: &[Pick], some_rows: bool, device: &Device) -> Result<Self> {
        let count = picks.len();
        let given = picks.iter().filter(|pick| matches!(pick.code, Code::Given(_))).count();
        let mut upload = Upload::default();
        let position = |pick: &Pick| pick.position;
        let rows = if some_rows { Some(upload.indices(picks.iter().map(position))?) } else { None };
        let id = |pick: &Pick| match pick.code {
            Code::Given(id) => id as usize,
            Code::Drawn(_) => DRAWN,
        };
        let ids = if given > 0 { Some(upload.indices(picks.iter().map(id))?) } else { None };
        let uniform = |pick: &Pick| match pick.code {
            Code::Given(_) => 0.0,
            Code::Drawn(uniform) => uniform,
        };
        let uniforms = (given < count).then(|| upload.floats(picks.iter().map(uniform)));
        let sent = upload.send(device);
        Ok(Self {
            rows: rows.map(|rows| sent.indices(rows, [count])),
            given: ids.map(|ids| sent.indices(ids, [count, 1])),
            uniforms: uniforms.map(|uniforms| sent.floats(uniforms, [count, 1])),
        })
    }
}

/// How many of `[R, V]` logits are neither NaN nor +infinity, `[R, 1]`: some kernels of the softmax
/// hide both.
fn numbers(logits: &Tensor<2>) -> Tensor<2, Int> {
    // A NaN is not below anything.
    logits.clone().lower_equal_scalar(f32::MAX).int().sum_dim(1)
}

/// Refuses logits that are no numbers; `bad` is their count in the row of each pick.
fn check_numbers(picks: &[Pick], bad: impl Iterator<Item = usize> + Clone) -> Result<()> {
    let total: usize = bad.clone().sum();
    match picks.iter().zip(bad).find(|&(_, bad)| bad > 0) {
        Some((pick, _)) => Err(not_numbers(pick, format!("{total} NaN or +infinity, the first"))),
        None => Ok(()),
    }
}

fn not_numbers(pick: &Pick, what: String) -> Error {
    let got = format!(
        "{what} at position {} (damaged weights, or activations that overflow their dtype: bf16 \
         and f32 reach further than f16)",
        pick.position
    );
    Error::value("logits", "numbers below infinity, at least one of them finite in each row", got)
}

/// Checks a result of the device.
fn checked(pick: &Pick, code: i64, probability: f32) -> Result<Picked> {
    if probability.is_nan() {
        return Err(not_numbers(pick, "a softmax that is no number".to_owned()));
    }
    let drawn = matches!(pick.code, Code::Drawn(_));
    match u32::try_from(code) {
        Ok(code) if probability > 0.0 || !drawn => Ok(Picked { code, probability }),
        _ => {
            let message = format!("code {code} at {} has probability {probability}", pick.position);
            Err(Error::Device { doing: "drawing tokens", message })
        }
    }
}

/// `[R, 1]` codes: the given ones as they are, the others drawn from `[R, V]` probabilities.
fn codes(probabilities: &Tensor<2>, sent: SentPicks) -> Tensor<2, Int> {
    let drawn = sent.uniforms.map(|uniforms| draw(probabilities.clone(), uniforms));
    match (sent.given, drawn) {
        (Some(given), Some(drawn)) => {
            given.clone().mask_where(given.equal_scalar(DRAWN as i32), drawn)
        }
        (given, drawn) => given.or(drawn).expect("a pick is given or drawn"),
    }
}

/// Draws one code per row of `[R, V]` probabilities by inverting their cumulative distribution at
/// `[R, 1]` uniforms: `[R, 1]` codes.
///
/// The search has two levels: chunks of about √V codes, then the codes of one chunk. A cumulative
/// sum over V costs V² reads per row on GPU backends, which have no parallel scan, and loses small
/// probabilities that follow large ones to rounding. Two sums of √V values have neither problem:
/// rounding errors move a draw by at most about √V · 2⁻²³ of probability. A prime V has no such
/// chunks and uses one cumulative sum.
///
/// Never returns a code of probability 0, in spite of rounding (see [`first_above`]).
fn draw(probabilities: Tensor<2>, uniforms: Tensor<2>) -> Tensor<2, Int> {
    let [rows, codes] = probabilities.dims();
    let width = chunk_width(codes);
    let chunks = codes / width;

    let sums = probabilities.clone().reshape([rows, chunks, width]).sum_dim(2);
    let edges = sums.reshape([rows, chunks]).cumsum(1);
    let target = edges.clone().narrow(1, chunks - 1, 1) * uniforms;
    let chunk = first_above(edges.clone(), target.clone());
    let before = edges
        .gather(1, chunk.clone().sub_scalar(1).clamp_min(0))
        .mask_fill(chunk.clone().equal_scalar(0), 0.0);

    let first_chunks = Tensor::arange(0..rows as i64, &probabilities.device()) * chunks as i64;
    let own = probabilities
        .reshape([rows * chunks, width])
        .select(0, first_chunks + chunk.clone().squeeze_dim(1));
    let within = first_above(own.cumsum(1), target - before);
    chunk * width as i64 + within
}

/// The largest divisor of `codes` up to its square root.
fn chunk_width(codes: usize) -> usize {
    (1..=codes.isqrt()).rev().find(|width| codes.is_multiple_of(*width)).unwrap_or(1)
}

/// The index at which the cumulative sums `edges` `[R, K]` first exceed `target` `[R, 1]`, at most
/// the index at which they reach their total: `[R, 1]` indices.
///
/// The sum has just increased at that index, so its summand is above 0, and the index is below K.
/// The second bound matters if rounding moves the target to the total or beyond it. Rows of NaN
/// return some index below K; the NaN probability is detected later.
fn first_above(edges: Tensor<2>, target: Tensor<2>) -> Tensor<2, Int> {
    let last = edges.dims()[1] - 1;
    let total = edges.clone().narrow(1, last, 1);
    let passed = edges.clone().lower_equal(target).int().sum_dim(1);
    passed.min_pair(edges.lower(total).int().sum_dim(1)).clamp_max(last as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, TensorData};
    use editmgt_core::{ChaChaNoise, GridSize, NoiseRequest, NoiseSource};

    fn drawn(probabilities: Vec<f32>, uniforms: Vec<f32>) -> Vec<i64> {
        let (rows, codes) = (uniforms.len(), probabilities.len() / uniforms.len());
        let device = Device::flex();
        let probabilities = TensorData::new(probabilities, [rows, codes]);
        let uniforms = TensorData::new(uniforms, [rows, 1]);
        draw(Tensor::from_data(probabilities, &device), Tensor::from_data(uniforms, &device))
            .try_into_vec_as::<i64>()
            .unwrap()
    }

    const BELOW_ONE: f32 = 1.0 - f32::EPSILON / 2.0;

    #[test]
    fn draw_inverts_the_cumulative_distribution() {
        // 2 and 3 codes have chunks of one, 4 of two, 6 of two; 5 is prime.
        for (row, uniform, expected) in [
            (vec![1.0], BELOW_ONE, 0),
            (vec![0.25, 0.75], 0.0, 0),
            (vec![0.25, 0.75], 0.25, 1),
            (vec![0.25, 0.25, 0.5], 0.249, 0),
            (vec![0.25, 0.25, 0.5], 0.5, 2),
            (vec![0.0, 0.0, 0.5, 0.5], 0.0, 2),
            (vec![0.5, 0.5, 0.0, 0.0], BELOW_ONE, 1),
            (vec![0.0, 0.5, 0.0, 0.5, 0.0], 0.49, 1),
            (vec![0.0, 0.5, 0.0, 0.5, 0.0], 0.5, 3),
            (vec![0.0, 0.5, 0.0, 0.5, 0.0], BELOW_ONE, 3),
            (vec![0.1, 0.1, 0.1, 0.3, 0.4, 0.0], 0.35, 3),
            (vec![0.1, 0.1, 0.1, 0.3, 0.4, 0.0], BELOW_ONE, 4),
        ] {
            assert_eq!(drawn(row.clone(), vec![uniform]), [expected], "{row:?} at {uniform}");
        }
    }

    #[test]
    fn draw_never_returns_a_code_of_probability_zero() {
        // The full codebook, with rounding everywhere: every second code, the first and the last
        // have probability 0; uniforms are dense at both ends.
        let (rows, codes) = (64, 8192);
        let request =
            NoiseRequest { first_image: 0, batch: 1, size: GridSize::new(rows, codes), step: 0 };
        let weights = ChaChaNoise::new(11).step_noise(&request).unwrap().confidence;
        let p: Vec<f32> = weights.iter().map(|u| u.powi(8) / 900.0).collect();
        let possible = |code: usize| code % 2 == 1 && code < codes - 300;
        let p: Vec<f32> = p
            .into_iter()
            .enumerate()
            .map(|(i, p)| if possible(i % codes) { p } else { 0.0 })
            .collect();
        let uniforms = |i: usize| match i % 4 {
            0 => i as f32 * f32::EPSILON,
            1 => 1.0 - (i / 4) as f32 * f32::EPSILON / 2.0 - f32::EPSILON / 2.0,
            _ => i as f32 / rows as f32,
        };
        for code in drawn(p, (0..rows).map(uniforms).collect()) {
            assert!(possible(code as usize), "{code}");
        }
    }

    #[test]
    fn draws_follow_the_distribution() {
        let p = [0.3, 0.0, 0.05, 0.2, 0.01, 0.04, 0.25, 0.15];
        let draws = 1 << 14;
        // Evenly spaced uniforms draw each code in proportion to its probability, up to one draw at
        // each of its two ends.
        let uniforms: Vec<f32> = (0..draws).map(|i| i as f32 / draws as f32).collect();
        let mut counts = [0usize; 8];
        for code in drawn(p.repeat(draws), uniforms) {
            counts[code as usize] += 1;
        }
        for (code, (&count, &p)) in counts.iter().zip(&p).enumerate() {
            let expected = p * draws as f32;
            assert!((count as f32 - expected).abs() <= 2.0, "code {code}: {count}, not {expected}");
        }
    }

    #[test]
    fn chunk_width_is_about_the_square_root() {
        for (codes, width) in [(8192, 64), (1024, 32), (64, 8), (24, 4), (7, 1), (1, 1)] {
            assert_eq!(chunk_width(codes), width, "{codes}");
        }
    }

    /// With 1024 codes of similar probability, half precision distinguishes few probabilities and
    /// no sums.
    #[test]
    fn half_precision_logits_are_drawn_in_f32() {
        for dtype in [DType::BF16, DType::F16] {
            let logits: Vec<f32> = (0..8 * 1024).map(|i| (i as f32 * 0.37).sin()).collect();
            let logits = TensorData::new(logits, [1, 8, 1024]);
            let logits = Tensor::<3>::from_data(logits, (&Device::flex(), dtype));
            let codes = (0..8).map(|i| Code::Drawn(0.06 + 0.12 * i as f32));
            let picks: Vec<_> =
                codes.enumerate().map(|(position, code)| Pick { position, code }).collect();
            let exact = pick(logits.clone().cast(DType::F32), &picks).unwrap();
            assert_eq!(pick(logits, &picks).unwrap(), exact, "{dtype:?}");
        }
    }

    #[test]
    fn rows_without_a_pick_are_ignored() {
        // A NaN row without a pick is ignored; with a pick it is an error.
        let device = Device::flex();
        let rows = [[[0.0, 0.0], [f32::NAN, 0.0], [f32::NEG_INFINITY, 4.0]]];
        let logits = || Tensor::<3>::from_floats(rows, &device);
        let picks = |list: &[(usize, Code)]| -> Vec<Pick> {
            list.iter().map(|&(position, code)| Pick { position, code }).collect()
        };
        let (given, drawn) = (Code::Given, Code::Drawn);
        let picked = pick(logits(), &picks(&[(0, given(1)), (2, drawn(0.0))]));
        let expected = [(1, 0.5), (1, 1.0)].map(|(code, probability)| Picked { code, probability });
        assert_eq!(picked.unwrap(), expected);
        assert_eq!(pick(logits(), &[]).unwrap(), []);
        for code in [drawn(0.5), given(0)] {
            let error = pick(logits(), &picks(&[(0, drawn(0.5)), (1, code)])).unwrap_err();
            assert!(error.to_string().contains("logits"), "{error}");
        }
        let error = pick(logits(), &picks(&[(0, given(2))])).unwrap_err();
        assert!(matches!(error, Error::TokenOutOfRange { id: 2, position: 0, limit: 2 }));
    }
}
