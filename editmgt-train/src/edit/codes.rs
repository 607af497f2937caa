use burn::tensor::{Tensor, TensorData};

use super::EditModel;
use crate::run::{Draws, Stream, TrainError};

/// Deviation of the weights that make logits: those of the other convolutions.
const OUTPUT_DEVIATION: f64 = 0.02;
/// Share of random noise in a row's deviation, so that no two rows start equal.
const NOISE: f64 = 0.2;

/// Initialises the token embeddings as random projections of their codes, `[codes, channels]`.
pub(super) fn embed_codes(
    model: EditModel,
    codes: Tensor<2>,
    draws: &Draws,
) -> Result<EditModel, TrainError> {
    let device = codes.device();
    let [count, channels] = codes.dims();
    let centred = codes.clone() - codes.mean_dim(0);
    // One scale for all channels: a direction with little variance among the codes carries little
    // information.
    let codes = centred.clone() / (centred.square().mean().unsqueeze::<2>() + 1e-12).sqrt();
    let width = model.transformer().width();
    let normal = |stream: &mut Stream, shape: [usize; 2]| {
        let values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| stream.normal()).collect();
        Tensor::<2>::from_data(TensorData::new(values, shape), &device)
    };
    let rows = |purpose| {
        let mut stream = draws.stream(purpose, 0);
        let projection = normal(&mut stream, [channels, width]) / (channels as f64).sqrt();
        codes.clone().matmul(projection) + normal(&mut stream, [count, width]) * NOISE
    };
    let (inputs, outputs) = (rows("code inputs"), rows("code outputs") * OUTPUT_DEVIATION);
    Ok(model.map_transformer(|transformer| transformer.with_code_rows(inputs, outputs))?)
}
