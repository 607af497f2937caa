//! Losses of edit training.

use burn::tensor::{DType, Int, Tensor, TensorData, activation};
use editmgt_core::{Error, Result, TokenGrid, Upload};
use editmgt_kernels::weighted_nll;

/// The weighted mean of the negative log-likelihood of `targets`, `[1]`.
///
/// `logits` is `[B, N, V]`, `targets` and `weights` are `[B, N]` row-major; positions of weight 0
/// are ignored, whatever their target. With weight 1 at every masked position this is the official
/// loss: the mean over all masked tokens of the batch.
///
/// # Errors
/// [`Error::Shape`] for mismatched inputs, [`Error::TokenOutOfRange`] for a target that is not a
/// codebook index, [`Error::Value`] when no weight is above 0.
pub fn masked_nll(logits: Tensor<3>, targets: &TokenGrid, weights: &[f32]) -> Result<Tensor<1>> {
    let [batch, positions, codes] = logits.dims();
    let expected = [batch, positions];
    if [targets.batch(), targets.size().len()] != expected {
        let got = format!("{:?}", [targets.batch(), targets.size().len()]);
        return Err(Error::shape("targets", format!("{expected:?}"), got));
    }
    if weights.len() != batch * positions {
        return Err(Error::shape("loss weights", batch * positions, weights.len()));
    }
    targets.check_below(codes)?;
    let shares = shares(weights)?;
    Ok(weighted_nll(logits.reshape([batch * positions, codes]), targets.ids(), &shares))
}

/// [`masked_nll`] of `features` `[B, N, D]`, whose `logits` `[1, R, V]` are computed from those
/// rows `[1, R, D]` alone that have a weight.
///
/// # Errors
/// Those of [`masked_nll`].
pub fn masked_nll_of(
    features: Tensor<3>,
    logits: impl FnOnce(Tensor<3>) -> Tensor<3>,
    targets: &TokenGrid,
    weights: &[f32],
) -> Result<Tensor<1>> {
    let [batch, positions, width] = features.dims();
    if targets.ids().len() != batch * positions || weights.len() != batch * positions {
        let got = format!("{} targets, {} weights", targets.ids().len(), weights.len());
        return Err(Error::shape("targets and loss weights", batch * positions, got));
    }
    let rows: Vec<usize> = (0..weights.len()).filter(|&row| weights[row] != 0.0).collect();
    if rows.len() == weights.len() {
        return masked_nll(logits(features), targets, weights);
    }
    let labels: Vec<u32> = rows.iter().map(|&row| targets.ids()[row]).collect();
    let weights: Vec<f32> = rows.iter().map(|&row| weights[row]).collect();
    let shares = shares(&weights)?;
    let device = features.device();
    let mut upload = Upload::default();
    let (count, part) = (rows.len(), upload.indices(rows)?);
    let rows: Tensor<1, Int> = upload.send(&device).indices(part, [count]);
    let features = features.reshape([batch * positions, width]).select(0, rows);
    let logits: Tensor<2> = logits(features.unsqueeze()).squeeze_dim(0);
    let [_, codes] = logits.dims();
    targets.check_below(codes)?;
    Ok(weighted_nll(logits, &labels, &shares))
}

/// Weights as shares of their sum.
fn shares(weights: &[f32]) -> Result<Vec<f32>> {
    let total: f32 = weights.iter().sum();
    if !(total > 0.0 && total.is_finite() && weights.iter().all(|&w| w >= 0.0)) {
        return Err(Error::value("loss weights", "0 or more, with a sum above 0", total));
    }
    Ok(weights.iter().map(|w| w / total).collect())
}

/// Mean Kullback-Leibler divergence `Σ q ln(q / p)` of attention maps from the true region, `[1]`,
/// over maps and the items that have a region.
///
/// Each of `maps` is `[B, cells]`, 0 or more, and is normalised to a distribution over the cells;
/// `region` is `[B, cells]` row-major, 0 or more, likewise. Items with an empty region (no change,
/// or unknown) are ignored; the divergence is 0 if all are.
///
/// # Errors
/// [`Error::Shape`] when the sizes differ or `maps` is empty.
pub fn map_divergence(maps: &[Tensor<2>], region: &[f32]) -> Result<Tensor<1>> {
    /// Far below any share of attention of a trained map, but not 0 in f32.
    const SMALLEST: f64 = 1e-8;
    let Some(first) = maps.first() else {
        return Err(Error::shape("attention maps", "at least one", 0));
    };
    let ([batch, cells], device) = (first.dims(), first.device());
    if region.len() != batch * cells || maps.iter().any(|map| map.dims() != [batch, cells]) {
        let dims: Vec<_> = maps.iter().map(Tensor::dims).collect();
        let got = format!("{} for maps of {dims:?}", region.len());
        return Err(Error::shape("region of the maps", batch * cells, got));
    }
    let sums: Vec<f32> = region.chunks_exact(cells).map(|item| item.iter().sum()).collect();
    let items = sums.iter().filter(|&&sum| sum > 0.0).count().max(1);
    // Each item's distribution q, divided by the number of averaged terms.
    let average = (items * maps.len()) as f32;
    let (mut truth, mut entropy) = (Vec::with_capacity(region.len()), 0.0);
    for (item, &sum) in region.chunks_exact(cells).zip(&sums) {
        for &value in item {
            let q = if sum > 0.0 { value / sum } else { 0.0 };
            entropy -= if q > 0.0 { q * q.ln() } else { 0.0 };
            truth.push(q / average);
        }
    }
    let truth: Tensor<2> =
        Tensor::from_data(TensorData::new(truth, [batch, cells]), (&device, DType::F32));
    let cross = maps
        .iter()
        .map(|map| {
            let map = map.clone().cast(DType::F32) + SMALLEST;
            let p = map.clone() / map.sum_dim(1);
            (p.log() * truth.clone()).sum().neg()
        })
        .reduce(|a, b| a + b)
        .expect("there is at least one map");
    Ok(cross - entropy / items as f32)
}

/// Mean cross-entropy, `[1]`, over questions and items, and the accuracy: `logits` `[B, all
/// classes]` holds the classes of one question after the other, `answers` one class for each item
/// and question, item by item.
///
/// # Errors
/// [`Error::Shape`] when classes or answers don't match the logits.
pub fn slot_cross_entropy(
    logits: Tensor<2>,
    classes: &[usize],
    answers: &[u32],
) -> Result<(Tensor<1>, f64)> {
    let [batch, all] = logits.dims();
    let questions = classes.len();
    if classes.iter().sum::<usize>() != all || questions == 0 {
        return Err(Error::shape("classes of the questions", all, format!("{classes:?}")));
    }
    if answers.len() != batch * questions {
        return Err(Error::shape("answers", batch * questions, answers.len()));
    }
    let device = logits.device().inner();
    let (mut start, mut loss, mut right) = (0, None, 0usize);
    for (question, &count) in classes.iter().enumerate() {
        let truth: Vec<i32> =
            (0..batch).map(|item| answers[item * questions + question] as i32).collect();
        let own = logits.clone().narrow(1, start, count);
        start += count;
        let best = own.clone().inner().argmax(1).try_into_vec_as::<i64>();
        let best = best.map_err(|e| Error::device("reading the best answers", e))?;
        right +=
            best.iter().zip(&truth).filter(|(best, truth)| **best == i64::from(**truth)).count();
        let truth = Tensor::<2, Int>::from_data(TensorData::new(truth, [batch, 1]), &device);
        let truth = if logits.is_autodiff() { truth.autodiff() } else { truth };
        let cost = activation::log_softmax(own, 1).gather(1, truth).sum().neg();
        loss = Some(match loss {
            Some(sum) => sum + cost,
            None => cost,
        });
    }
    let answers = (batch * questions) as f64;
    let loss: Tensor<1> = loss.expect("there is a question");
    Ok((loss / answers, right as f64 / answers))
}

/// Mean binary cross-entropy, `[1]`, of `logits` `[B, N]` for whether a token changes.
///
/// # Errors
/// [`Error::Shape`] when the number of answers differs.
pub fn changed_cross_entropy(logits: Tensor<2>, changed: &[bool]) -> Result<Tensor<1>> {
    let share = 1.0 / changed.len().max(1) as f32;
    weighted_changed_cross_entropy(logits, changed, vec![share; changed.len()])
}

/// [`changed_cross_entropy`] with a weight for each token, whose sum is 1.
fn weighted_changed_cross_entropy(
    logits: Tensor<2>,
    changed: &[bool],
    weights: Vec<f32>,
) -> Result<Tensor<1>> {
    let [batch, positions] = logits.dims();
    if changed.len() != batch * positions {
        return Err(Error::shape("changed tokens", batch * positions, changed.len()));
    }
    let device = logits.device();
    let of = |values: Vec<f32>| -> Tensor<2> {
        Tensor::from_data(TensorData::new(values, [batch, positions]), (&device, DType::F32))
    };
    let truth = of(changed.iter().map(|&changed| f32::from(u8::from(changed))).collect());
    let logits = logits.cast(DType::F32);
    let costs = activation::softplus(logits.clone(), 1.0) - logits * truth;
    Ok((costs * of(weights)).sum())
}

/// [`changed_cross_entropy`] of cells of which some show an object (`shows`), as the mean over
/// three kinds: those that change, those that show another object, and the others. Most cells are
/// background, and easy.
///
/// # Errors
/// [`Error::Shape`] when the number of answers differs.
pub fn target_cross_entropy(
    logits: Tensor<2>,
    changed: &[bool],
    shows: &[bool],
) -> Result<Tensor<1>> {
    if shows.len() != changed.len() {
        return Err(Error::shape("cells that show an object", changed.len(), shows.len()));
    }
    let kind = |cell: usize| match (changed[cell], shows[cell]) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => 2,
    };
    let mut counts = [0usize; 3];
    (0..changed.len()).for_each(|cell| counts[kind(cell)] += 1);
    let kinds = counts.iter().filter(|&&count| count > 0).count().max(1);
    let weights: Vec<f32> =
        (0..changed.len()).map(|cell| 1.0 / (kinds * counts[kind(cell)]) as f32).collect();
    weighted_changed_cross_entropy(logits, changed, weights)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use editmgt_core::GridSize;

    use super::*;

    const BATCH: usize = 2;
    const POSITIONS: usize = 3;
    const CODES: usize = 5;

    fn logits() -> Vec<f32> {
        (0..BATCH * POSITIONS * CODES).map(|i| (i as f32 * 1.7).sin() * 3.0).collect()
    }

    fn targets() -> TokenGrid {
        TokenGrid::new(BATCH, GridSize::new(1, POSITIONS), vec![4, 0, 2, 1, 3, 3]).unwrap()
    }

    /// Reference implementation in f64.
    fn expected(logits: &[f64], weights: &[f32]) -> f64 {
        let rows = logits.chunks_exact(CODES).zip(targets().ids().to_vec());
        let nll = rows.map(|(row, target)| {
            row.iter().map(|x| x.exp()).sum::<f64>().ln() - row[target as usize]
        });
        let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        nll.zip(weights).map(|(nll, &w)| nll * f64::from(w)).sum::<f64>() / total
    }

    const WEIGHTINGS: [[f32; BATCH * POSITIONS]; 3] = [
        [1.0; 6],
        // Official: equal weights of all masked tokens.
        [1.0, 0.0, 1.0, 0.0, 0.0, 1.0],
        [4.0, 1.0, 0.0, 1.0, 4.0, 0.0],
    ];

    #[test]
    fn value_and_gradient_of_the_likelihood() {
        let device = Device::flex().autodiff();
        let logits = logits();
        let exact: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
        for weights in WEIGHTINGS {
            let x = Tensor::<3>::from_data(
                TensorData::new(logits.clone(), [BATCH, POSITIONS, CODES]),
                &device,
            )
            .require_grad();
            let loss = masked_nll(x.clone(), &targets(), &weights).unwrap();
            let gradients = loss.backward();
            // A few f32 roundings of values of order one.
            let value = f64::from(loss.into_scalar::<f32>());
            assert!((value - expected(&exact, &weights)).abs() < 1e-5);
            let gradient = x.grad(&gradients).unwrap().try_into_vec_as::<f32>().unwrap();
            for (i, &got) in gradient.iter().enumerate() {
                let at = |shift: f64| {
                    let mut moved = exact.clone();
                    moved[i] += shift;
                    expected(&moved, &weights)
                };
                // Central differences in f64 with this step are exact to 1e-8.
                let difference = (at(1e-4) - at(-1e-4)) / 2e-4;
                assert!((f64::from(got) - difference).abs() < 1e-6, "{i}: {got}, {difference}");
            }
        }
    }

    #[test]
    fn logits_of_some_rows_have_the_value_and_the_gradient_of_all() {
        let device = Device::flex().autodiff();
        // A last layer that is easy to see through: twice the features.
        let last = |x: Tensor<3>| x * 2.0;
        for weights in WEIGHTINGS {
            let features = || {
                let data = TensorData::new(logits(), [BATCH, POSITIONS, CODES]);
                Tensor::<3>::from_data(data, &device).require_grad()
            };
            let gradient = |x: &Tensor<3>, loss: &Tensor<1>| {
                x.grad(&loss.backward()).unwrap().try_into_vec_as::<f32>().unwrap()
            };
            let x = features();
            let all = masked_nll(last(x.clone()), &targets(), &weights).unwrap();
            let y = features();
            let some = masked_nll_of(y.clone(), last, &targets(), &weights).unwrap();
            for (a, b) in gradient(&x, &all).iter().zip(gradient(&y, &some)) {
                assert!((a - b).abs() < 1e-6, "{a} {b}");
            }
            assert!((all.into_scalar::<f32>() - some.into_scalar::<f32>()).abs() < 1e-6);
        }
        let features = || Tensor::<3>::zeros([BATCH, POSITIONS, CODES], &device);
        let outside = TokenGrid::filled(BATCH, GridSize::new(1, POSITIONS), CODES as u32);
        assert!(masked_nll_of(features(), last, &outside, &WEIGHTINGS[1]).is_err());
        assert!(masked_nll_of(features(), last, &targets(), &[1.0; 5]).is_err());
        assert!(masked_nll_of(features(), last, &targets(), &[0.0; 6]).is_err());
    }

    #[test]
    fn large_logits_stay_finite() {
        let device = Device::flex();
        let huge = Tensor::<3>::full([BATCH, POSITIONS, CODES], 1e30, &device);
        let loss = masked_nll(huge, &targets(), &[1.0; 6]).unwrap().into_scalar::<f32>();
        assert!((loss - (CODES as f32).ln()).abs() < 1e-5, "{loss}");
    }

    #[test]
    fn rejects_invalid_targets_and_weights() {
        let logits = || Tensor::<3>::zeros([BATCH, POSITIONS, CODES], &Device::flex());
        let outside = TokenGrid::filled(BATCH, GridSize::new(1, POSITIONS), CODES as u32);
        let small = TokenGrid::filled(1, GridSize::new(1, POSITIONS), 0);
        assert!(masked_nll(logits(), &outside, &[1.0; 6]).is_err());
        assert!(masked_nll(logits(), &small, &[1.0; 6]).is_err());
        assert!(masked_nll(logits(), &targets(), &[1.0; 5]).is_err());
        assert!(masked_nll(logits(), &targets(), &[0.0; 6]).is_err());
        assert!(masked_nll(logits(), &targets(), &[f32::NAN; 6]).is_err());
    }

    #[test]
    fn divergence_of_maps() {
        let device = Device::flex();
        let map = |values: [f32; 8]| {
            Tensor::<2>::from_data(TensorData::new(values.to_vec(), [2, 4]), &device)
        };
        let value = |maps: &[Tensor<2>], region: &[f32]| {
            map_divergence(maps, region).unwrap().into_scalar::<f32>()
        };
        let uniform = map([0.1, 0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.2]);
        let right = map([0.4, 0.0, 0.0, 0.0, 0.0, 0.1, 0.1, 0.0]);
        let region = [1.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.0];
        // ln 4 for the first item, ln 2 for the second.
        let expected = (4f32.ln() + 2f32.ln()) / 2.0;
        // Shifted by 1e-8 for the logarithm.
        assert!((value(std::slice::from_ref(&uniform), &region) - expected).abs() < 1e-5);
        assert!(value(std::slice::from_ref(&right), &region).abs() < 1e-5);
        assert!((value(&[right, uniform.clone()], &region) - expected / 2.0).abs() < 1e-5);
        // An item without a region is ignored.
        let second = [0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.0];
        assert!((value(std::slice::from_ref(&uniform), &second) - 2f32.ln()).abs() < 1e-5);
        assert_eq!(value(std::slice::from_ref(&uniform), &[0.0; 8]), 0.0);
        assert!(map_divergence(&[], &region).is_err());
        assert!(map_divergence(&[uniform], &[0.0; 4]).is_err());
    }

    #[test]
    fn kinds_of_cells_have_equal_weights() {
        let logits = || Tensor::<2>::from_data([[2.0f32, -1.0, 0.5, 3.0]], &Device::flex());
        let value = |loss: Tensor<1>| loss.into_scalar::<f32>();
        let changed = [true, false, false, false];
        let shows = [true, true, false, false];
        let cost = |x: f32| (1.0 + x.exp()).ln();
        let expected = (cost(-2.0) + cost(-1.0) + (cost(0.5) + cost(3.0)) / 2.0) / 3.0;
        let got = value(target_cross_entropy(logits(), &changed, &shows).unwrap());
        assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        // Without objects, of two kinds; of one kind it is the mean.
        let expected = (cost(-2.0) + (cost(-1.0) + cost(0.5) + cost(3.0)) / 3.0) / 2.0;
        let got = value(target_cross_entropy(logits(), &changed, &[false; 4]).unwrap());
        assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        let got = value(target_cross_entropy(logits(), &[false; 4], &[false; 4]).unwrap());
        let mean = value(changed_cross_entropy(logits(), &[false; 4]).unwrap());
        assert!((got - mean).abs() < 1e-6, "{got} {mean}");
        assert!(target_cross_entropy(logits(), &changed, &shows[1..]).is_err());
    }

    #[test]
    fn cross_entropy_of_changes() {
        let logits = Tensor::<2>::from_data([[2.0f32, -1.0, 0.0]], &Device::flex());
        let loss = changed_cross_entropy(logits, &[true, true, false]).unwrap();
        let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
        let expected = -(sigmoid(2.0).ln() + sigmoid(-1.0).ln() + 0.5f32.ln()) / 3.0;
        assert!((loss.into_scalar::<f32>() - expected).abs() < 1e-6);
    }
}
