//! Elementwise functions between two matrix products.

use burn::tensor::{Tensor, activation};

use crate::gradient;
use crate::host::{HostTensor, on_host};
use crate::lanes::{exp, sigmoid};
use crate::work::{CHUNK, Elementwise, RowChange, map, map_rows};

/// Twice √(2/π), and that times the cubic term's factor: `gelu_tanh(x) = x σ(x (SLOPE + CUBIC
/// x²))`.
const SLOPE: f64 = 1.595_769_121_605_731;
const CUBIC: f64 = SLOPE * 0.044_715;

/// `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`, the tanh form of GELU.
///
/// Written with the identity `(1 + tanh u)/2 = σ(2u)`: one transcendental function instead of a
/// `tanh` and a general power, which is what burn's own form costs, and no cancellation for large
/// negative `x`.
///
/// # Shapes
/// Any shape, to the same.
pub fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if on_host(&x) {
        let shape = x.dims();
        return applied(HostTensor::take(x), Function::GeluTanh).into_tensor(shape);
    }
    if let Some(out) = gradient::elementwise(&x, Function::GeluTanh) {
        return out;
    }
    let u = (x.clone() * x.clone() * CUBIC + SLOPE) * x.clone();
    activation::sigmoid(u) * x
}

/// `x Φ(x)`, the exact GELU.
///
/// # Shapes
/// Any shape, to the same.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if on_host(&x) {
        let shape = x.dims();
        return applied(HostTensor::take(x), Function::Gelu).into_tensor(shape);
    }
    if let Some(out) = gradient::elementwise(&x, Function::Gelu) {
        return out;
    }
    activation::gelu(x)
}

/// `gelu_tanh(gate) * x`.
///
/// # Shapes
/// `gate`, `x` and the result: any shape, the same for all.
///
/// # Panics
/// If the shapes differ.
pub fn gelu_tanh_gated<const D: usize>(gate: Tensor<D>, x: Tensor<D>) -> Tensor<D> {
    if on_host(&gate) && on_host(&x) {
        let shape = gate.dims();
        assert_eq!(shape, x.dims(), "gate and input must have the same shape");
        return gated(HostTensor::take(gate), &HostTensor::take(x)).into_tensor(shape);
    }
    gelu_tanh(gate) * x
}

/// One function for tensors of any rank, as [`applied`].
fn gated(gate: HostTensor, x: &HostTensor) -> HostTensor {
    map_rows(gate, CHUNK, Gated(x.values()))
}

/// `x σ(1.702 x)`, CLIP's approximation of GELU.
///
/// # Shapes
/// Any shape, to the same.
pub fn quick_gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if on_host(&x) {
        let shape = x.dims();
        return applied(HostTensor::take(x), Function::QuickGelu).into_tensor(shape);
    }
    if let Some(out) = gradient::elementwise(&x, Function::QuickGelu) {
        return out;
    }
    x.clone() * activation::sigmoid(x * 1.702)
}

/// `x σ(x)`.
///
/// # Shapes
/// Any shape, to the same.
pub fn silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if on_host(&x) {
        let shape = x.dims();
        return applied(HostTensor::take(x), Function::Silu).into_tensor(shape);
    }
    if let Some(out) = gradient::elementwise(&x, Function::Silu) {
        return out;
    }
    // Below -80 the result is 0 to thirty digits. Without the bound exp would overflow, and the
    // gradient there be 0 times infinity.
    let denominator = x.clone().clamp_min(-80.0).neg().exp() + 1.0;
    x / denominator
}

/// Functions of single values.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Function {
    GeluTanh,
    Gelu,
    QuickGelu,
    Silu,
}

/// Replaces each value: one function for tensors of any rank, so that it is compiled once, in this
/// crate.
pub(crate) fn applied(x: HostTensor, function: Function) -> HostTensor {
    match function {
        Function::GeluTanh => map(x, GeluTanh),
        Function::Gelu => map(x, Gelu),
        Function::QuickGelu => map(x, QuickGelu),
        Function::Silu => map(x, Silu),
    }
}

/// Multiplies a gradient by the derivative of the function at each value, as [`applied`].
pub(crate) fn times_derivative(
    gradient: HostTensor,
    function: Function,
    x: &HostTensor,
) -> HostTensor {
    let x = x.values();
    match function {
        Function::GeluTanh => map_rows(gradient, CHUNK, TimesDerivative(GeluTanh, x)),
        Function::Gelu => map_rows(gradient, CHUNK, TimesDerivative(Gelu, x)),
        Function::QuickGelu => map_rows(gradient, CHUNK, TimesDerivative(QuickGelu, x)),
        Function::Silu => map_rows(gradient, CHUNK, TimesDerivative(Silu, x)),
    }
}

/// Of a chunk of a gradient, with the values of the function's argument.
struct TimesDerivative<'a, F>(F, &'a [f32]);

impl<F: Derivative> RowChange for TimesDerivative<'_, F> {
    #[inline(always)]
    fn change(&self, index: usize, gradient: &mut [f32]) {
        let x = &self.1[index * CHUNK..][..gradient.len()];
        for (gradient, x) in gradient.iter_mut().zip(x) {
            *gradient *= self.0.at(*x);
        }
    }
}

/// A function with its derivative.
trait Derivative: Sync {
    /// The derivative. Implementations are `#[inline(always)]`.
    fn at(&self, x: f32) -> f32;
}

impl Derivative for GeluTanh {
    #[inline(always)]
    fn at(&self, x: f32) -> f32 {
        let (slope, cubic) = (SLOPE as f32, CUBIC as f32);
        let share = sigmoid(x * (slope + cubic * x * x));
        share + x * share * (1.0 - share) * (slope + 3.0 * cubic * x * x)
    }
}

/// `Φ(x) + x φ(x)`.
impl Derivative for Gelu {
    #[inline(always)]
    fn at(&self, x: f32) -> f32 {
        /// 1 / √(2π).
        const DENSITY: f32 = 0.398_942_3;
        normal_below(x) + x * DENSITY * exp(-0.5 * x * x)
    }
}

impl Derivative for QuickGelu {
    #[inline(always)]
    fn at(&self, x: f32) -> f32 {
        let share = sigmoid(1.702 * x);
        share + 1.702 * x * share * (1.0 - share)
    }
}

impl Derivative for Silu {
    #[inline(always)]
    fn at(&self, x: f32) -> f32 {
        let share = sigmoid(x);
        share + x * share * (1.0 - share)
    }
}

struct GeluTanh;

impl Elementwise for GeluTanh {
    #[inline(always)]
    fn of(&self, x: f32) -> f32 {
        gelu_by_tanh(x)
    }
}

struct Gelu;

impl Elementwise for Gelu {
    #[inline(always)]
    fn of(&self, x: f32) -> f32 {
        x * normal_below(x)
    }
}

struct QuickGelu;

impl Elementwise for QuickGelu {
    #[inline(always)]
    fn of(&self, x: f32) -> f32 {
        x * sigmoid(1.702 * x)
    }
}

struct Silu;

impl Elementwise for Silu {
    #[inline(always)]
    fn of(&self, x: f32) -> f32 {
        silu_of(x)
    }
}

/// Of a chunk of gates, with the values that they gate.
struct Gated<'a>(&'a [f32]);

impl RowChange for Gated<'_> {
    #[inline(always)]
    fn change(&self, index: usize, gate: &mut [f32]) {
        let x = &self.0[index * CHUNK..][..gate.len()];
        for (gate, x) in gate.iter_mut().zip(x) {
            *gate = gelu_by_tanh(*gate) * x;
        }
    }
}

/// Φ, the cumulative distribution function of the standard normal distribution.
///
/// At -|x| it is `e^(-x²/2) t P(t)` with `t = 1 / (1 + 0.2545584 |x|)`; P is fitted (least squares,
/// weighted until all errors are alike) to 4e-8 of the result for |x| up to 13. Small values keep
/// their digits, which `(1 + erf(x/√2)) / 2` loses.
#[inline(always)]
fn normal_below(x: f32) -> f32 {
    const P: [f32; 9] = [
        0.203_215_51,
        0.200_982_51,
        0.208_002_27,
        0.077_584_505,
        0.378_928_07,
        -0.382_279_57,
        0.573_189,
        -0.318_170_73,
        0.058_548_357,
    ];
    let t = 1.0 / (1.0 + 0.254_558_44 * x.abs());
    let polynomial = P.iter().rev().fold(0.0, |sum, factor| sum * t + factor);
    let tail = 0.5 * exp(-0.5 * x * x) * (t * polynomial);
    if x < 0.0 { tail } else { 1.0 - tail }
}

#[inline(always)]
fn gelu_by_tanh(x: f32) -> f32 {
    x * sigmoid(x * (SLOPE as f32 + CUBIC as f32 * x * x))
}

#[inline(always)]
pub(crate) fn silu_of(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::testing::{both, worst};

    fn points() -> Vec<f32> {
        (-6000..6000).map(|i| i as f32 / 500.0).collect()
    }

    #[test]
    fn functions_match_their_formulas_in_f64() {
        /// By the series of erf; far out by the continued fraction of erfc.
        fn by_erf(x: f64) -> f64 {
            let z = x.abs() / 2f64.sqrt();
            let below = if z < 3.0 {
                let term = |n: u32| {
                    let product: f64 = (1..=n).map(|i| -z * z / f64::from(i)).product();
                    product / f64::from(2 * n + 1)
                };
                0.5 - z / std::f64::consts::PI.sqrt() * (0..60).map(term).sum::<f64>()
            } else {
                let fraction = (1..80).rev().fold(0.0, |f, n| f64::from(n) / 2.0 / (z + f));
                0.5 * (-z * z).exp() / std::f64::consts::PI.sqrt() / (z + fraction)
            };
            x * if x < 0.0 { below } else { 1.0 - below }
        }
        fn by_tanh(x: f64) -> f64 {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + u.tanh())
        }
        fn logistic(x: f64) -> f64 {
            1.0 / (1.0 + (-x).exp())
        }
        type Function = (fn(Tensor<1>) -> Tensor<1>, fn(f64) -> f64);
        let functions: [Function; 4] = [
            (gelu_tanh, by_tanh),
            (gelu, by_erf),
            (quick_gelu, |x| x * logistic(1.702 * x)),
            (silu, |x| x * logistic(x)),
        ];
        for (which, (function, exact)) in functions.into_iter().enumerate() {
            for form in both(points(), function) {
                for (&x, got) in points().iter().zip(form) {
                    // A few f32 roundings of the argument and of the result.
                    let tolerance = 1.5e-6 * f64::from(x.abs().max(0.1));
                    let expected = exact(f64::from(x));
                    assert!((f64::from(got) - expected).abs() < tolerance, "{which} {x}: {got}");
                }
            }
        }
    }

    #[test]
    fn large_inputs_and_nan_stay_correct() {
        let device = Device::flex();
        for function in [gelu::<1>, gelu_tanh, quick_gelu, silu] {
            let ends = Tensor::<1>::from_floats([-1e4, -200.0, 0.0, 200.0, 1e4], &device);
            let got = function(ends).try_into_vec_as::<f32>().unwrap();
            assert!(
                got.iter().zip([0.0, 0.0, 0.0, 200.0, 1e4]).all(|(a, b)| (a - b).abs() < 1e-30),
                "{got:?}"
            );
            let nan = function(Tensor::<1>::from_floats([f32::NAN], &device));
            assert!(nan.into_scalar::<f32>().is_nan());
        }
    }

    #[test]
    fn gelu_tanh_gated_equals_the_product() {
        let gate = Tensor::<1>::from_floats(&points()[..], &Device::flex()).reshape([-1, 3]);
        let x: Tensor<2> = gate.clone() * 0.3 + 1.0;
        let expected = gelu_tanh(gate.clone()) * x.clone();
        // With a shared gate, and with one that the kernel may overwrite.
        assert_eq!(worst(gelu_tanh_gated(gate.clone(), x.clone()), expected.clone()), 0.0);
        assert_eq!(worst(gelu_tanh_gated(gate * 1.0, x), expected), 0.0);
    }
}
