//! The loss of predicted classes.

use burn::tensor::{DType, IndexingUpdateOp, Int, Tensor, TensorData};

use crate::gradient;

/// `Σ share · -ln softmax(logits)[label]`, in f32.
///
/// The gradient, `share · (softmax - one-hot label)`, is computed with the value: recorded
/// operation by operation, this largest tensor of a training step would be traversed five more
/// times and kept as often.
///
/// # Shapes
/// - `logits`: `[N, classes]`
/// - `labels`, `shares`: `N`; labels are below the number of classes
/// - result: `[1]`
///
/// # Panics
/// If there are not as many labels and shares as rows, or a label is not below the number of
/// classes.
pub fn weighted_nll(logits: Tensor<2>, labels: &[u32], shares: &[f32]) -> Tensor<1> {
    let [rows, classes] = logits.dims();
    assert_eq!([labels.len(), shares.len()], [rows; 2], "there must be a label for each row");
    let below = labels.iter().all(|&label| (label as usize) < classes);
    assert!(below, "labels must be below {classes}");
    if let Some(loss) = gradient::weighted_nll(&logits, labels, shares) {
        return loss;
    }
    let logits = logits.cast(DType::F32);
    let device = logits.device().inner();
    let labels: Vec<i64> = labels.iter().map(|&label| i64::from(label)).collect();
    let labels = Tensor::<2, Int>::from_data(TensorData::new(labels, [rows, 1]), &device);
    let shares = TensorData::new(shares.to_vec(), [rows, 1]);
    let shares = Tensor::<2>::from_data(shares, (&device, DType::F32));
    let is_recorded = logits.is_autodiff();
    let values = if is_recorded { logits.clone().inner() } else { logits.clone() };
    let at_label = values.clone().gather(1, labels.clone());
    let largest = values.clone().max_dim(1);
    let exponentials = (values - largest.clone()).exp();
    let sum = exponentials.clone().sum_dim(1);
    let nll = sum.clone().log() + (largest - at_label);
    let value = (nll * shares.clone()).sum();
    if !is_recorded {
        return value;
    }
    let gradient = exponentials * (shares.clone() / sum);
    let gradient = gradient.scatter(1, labels, shares.neg(), IndexingUpdateOp::Add);
    // A linear function with that gradient, shifted to the value. (Constants carry no autodiff
    // graph, so they work with any checkpointing strategy.)
    let linear = (logits * gradient).sum();
    linear.clone() - linear.detach() + value
}
