use burn::tensor::Tensor;

use super::LossOptions;

/// Reconstruction loss of `[B, 3, H, W]` images, each pixel weighted by `[B, 1, H, W]`; a tensor of
/// one value.
pub(super) fn reconstruction(
    images: Tensor<4>,
    targets: Tensor<4>,
    weights: Tensor<4>,
    options: &LossOptions,
) -> Tensor<1> {
    let [batch, channels, height, width] = images.dims();
    let difference = images - targets;
    let mean = |values: Tensor<4>, weights: Tensor<4>| {
        let total = weights.clone().sum() * channels as f32;
        (values * weights).sum() / total
    };
    let all = |rows: std::ops::Range<usize>, columns: std::ops::Range<usize>| {
        [0..batch, 0..channels, rows, columns]
    };
    let mut loss = mean(difference.clone().abs(), weights.clone()) * options.l1;
    if options.l2 > 0.0 {
        loss = loss + mean(difference.clone().square(), weights.clone()) * options.l2;
    }
    if options.edges > 0.0 {
        // Finite differences are linear: difference of the differences.
        let mut edges = |later: [std::ops::Range<usize>; 4],
                         earlier: [std::ops::Range<usize>; 4]| {
            let mut of_weights = later.clone();
            of_weights[1] = 0..1;
            let step = difference.clone().slice(later) - difference.clone().slice(earlier);
            loss =
                loss.clone() + mean(step.abs(), weights.clone().slice(of_weights)) * options.edges;
        };
        edges(all(1..height, 0..width), all(0..height - 1, 0..width));
        edges(all(0..height, 1..width), all(0..height, 0..width - 1));
    }
    loss
}

/// Straight-through estimator: the value of `codes`, the gradient of `latents` (van den Oord et
/// al., 2017).
pub(super) fn straight_through(latents: Tensor<4>, codes: Tensor<4>) -> Tensor<4> {
    let step = (codes - latents.clone()).detach();
    latents + step
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn agrees_with_sums_by_hand() {
        let device = Device::flex();
        // One channel, two rows, three columns.
        let image = Tensor::<4>::from_floats([[[[1.0, 2.0, 0.0], [0.0, 4.0, 1.0]]]], &device);
        let target = Tensor::<4>::from_floats([[[[0.0, 2.0, 2.0], [0.0, 1.0, 1.0]]]], &device);
        // Differences: 1 0 -2 / 0 3 0.
        let weights = Tensor::<4>::from_floats([[[[1.0, 1.0, 1.0], [1.0, 3.0, 1.0]]]], &device);
        for ([l1, l2, edges], expected) in [
            ([1.0, 0.0, 0.0], (1.0 + 2.0 + 3.0 * 3.0) / 8.0),
            ([0.0, 1.0, 0.0], (1.0 + 4.0 + 3.0 * 9.0) / 8.0),
            // Down: 1 3 2 weighted 1 3 1; across: 1 2 3 3 weighted 1 1 3 1.
            ([0.0, 0.0, 1.0], (1.0 + 9.0 + 2.0) / 5.0 + (1.0 + 2.0 + 9.0 + 3.0) / 6.0),
            ([2.0, 4.0, 0.0], 2.0 * 1.5 + 4.0 * 4.0),
        ] {
            let options = LossOptions { l1, l2, edges, commitment: 0.0 };
            let got = reconstruction(image.clone(), target.clone(), weights.clone(), &options);
            let got = got.into_scalar::<f32>();
            // Sums of a few numbers in f32.
            assert!((got - expected).abs() < 1e-5, "{options:?}: {got} expected {expected}");
        }
    }

    #[test]
    fn gradients_pass_straight_through() {
        let device = Device::flex().autodiff();
        let latents = Tensor::<4>::from_floats([[[[0.3, -0.2]]]], &device).require_grad();
        let codes = Tensor::<4>::from_floats([[[[1.0, 2.0]]]], &device);
        let quantized = straight_through(latents.clone(), codes);
        let values = quantized.clone().try_into_vec_as::<f32>().unwrap();
        assert!((values[0] - 1.0).abs() < 1e-6 && (values[1] - 2.0).abs() < 1e-6, "{values:?}");
        let gradients = quantized.square().sum().backward();
        let got = latents.grad(&gradients).unwrap().try_into_vec_as::<f32>().unwrap();
        // Of the sum of squares at the codes, not at the latents.
        assert!((got[0] - 2.0).abs() < 1e-5 && (got[1] - 4.0).abs() < 1e-5, "{got:?}");
    }
}
