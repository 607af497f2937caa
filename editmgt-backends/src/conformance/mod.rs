//! Checks whether a device supports the operations of an edit, and how exactly it computes them.
//!
//! [`run`] runs each operation of the pipeline on seeded inputs, in each float type in which the
//! pipeline uses it, and compares the results with f64 loops on the host. It takes a few seconds on
//! a CPU and needs no files, so it can be part of a backend's tests. Whole stages and whole edits
//! are compared with golden values instead (`editmgt verify --device`).
//!
//! # Errors and tolerances
//! An error is the largest absolute difference between device and reference, divided by the largest
//! absolute value of the reference. A tolerance is a multiple of the unit roundoff `u` of the float
//! type (2⁻²⁴ for f32, 2⁻¹¹ for f16, 2⁻⁸ for bf16). The float type represents the inputs exactly,
//! so errors are those of the operation.
//!
//! | the operation | f32 | f16, bf16 | because |
//! |---|---|---|---|
//! | moves, compares, counts | 0 | 0 | no rounding |
//! | rounds `n` times | `n·u` | `n·u` | at most one `u` each |
//! | sums `n` products | `(4 + √n)·u` | `4·u` | sums in any order: rounding errors are a random walk. Half-precision products have to be summed in f32: an f16 sum over the 12288 products of the full model's widest layer would be useless |
//! | evaluates exp, tanh, erf | `40·u` | `8·u` | WGSL allows exp 3 + 2·abs(x) last places (of 2·u), with abs(x) up to 8 here; half-precision functions may round each of a few steps |

mod attention;
mod convolutions;
mod elementwise;
mod fused;
mod indexing;
mod inputs;
mod known;
mod norms;
mod products;
mod report;
#[cfg(test)]
mod tests;
#[cfg(any(feature = "wgpu-plain", feature = "cuda"))]
mod unit_attention;

pub use known::{KNOWN_FAILURES, KnownFailure};
pub use report::{CheckReport, ConformanceReport, Verdict};

use burn::tensor::Device;

use crate::Dtype;
use crate::device::caught;
use inputs::{Answer, Inputs};

/// An operation and its tolerance.
#[derive(Debug, Clone, Copy)]
struct Check {
    name: &'static str,
    types: Types,
    tolerance: Tolerance,
    /// Draws inputs, runs the operation, and returns its result with the reference.
    answer: fn(&mut Inputs) -> Answer,
}

/// The types in which the pipeline uses an operation.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Types {
    /// Every float type.
    Floats,
    /// Operations that are computed in f32 for all dtypes: softmax, norms, sampling.
    F32,
    /// Attention, in f32 or by a fused kernel in f16.
    F32AndF16,
    /// What only f16 shows.
    #[cfg(any(feature = "wgpu-plain", feature = "cuda"))]
    F16,
    /// Integers and booleans.
    Ints,
}

/// See the table in the module's documentation.
#[derive(Debug, Clone, Copy)]
enum Tolerance {
    Exact,
    Roundings(u16),
    Sum { terms: u16 },
    Function,
}

impl Tolerance {
    /// The largest error that passes, relative to the largest absolute value of the reference.
    fn of(self, dtype: Dtype) -> f64 {
        let (unit, narrow) = match dtype {
            Dtype::F32 => (2f64.powi(-24), false),
            Dtype::F16 => (2f64.powi(-11), true),
            Dtype::Bf16 => (2f64.powi(-8), true),
        };
        unit * match self {
            Self::Exact => 0.0,
            Self::Roundings(count) => f64::from(count),
            Self::Sum { .. } if narrow => 4.0,
            Self::Sum { terms } => 4.0 + f64::from(terms).sqrt(),
            Self::Function if narrow => 8.0,
            Self::Function => 40.0,
        }
    }
}

impl Types {
    fn dtypes(self) -> &'static [Dtype] {
        match self {
            Self::Floats => &Dtype::ALL,
            Self::F32 | Self::Ints => &[Dtype::F32],
            Self::F32AndF16 => &[Dtype::F32, Dtype::F16],
            #[cfg(any(feature = "wgpu-plain", feature = "cuda"))]
            Self::F16 => &[Dtype::F16],
        }
    }
}

/// Every check that all devices run, in the order of the report.
fn checks() -> impl Iterator<Item = &'static Check> {
    [
        products::CHECKS,
        attention::CHECKS,
        norms::CHECKS,
        convolutions::CHECKS,
        elementwise::CHECKS,
        fused::CHECKS,
        indexing::CHECKS,
    ]
    .into_iter()
    .flatten()
}

/// The checks of kernels that only some devices have.
fn checks_of(device: &Device) -> &'static [Check] {
    #[cfg(any(feature = "wgpu-plain", feature = "cuda"))]
    if unit_attention::runs_on(device) {
        return attention::UNIT_CHECKS;
    }
    let _ = device;
    &[]
}

/// Runs every check on `device`.
///
/// A check in a float type that the device does not claim to support, or in which a half-precision
/// operation panics, is [`Verdict::Unsupported`]; wrong results, and panics in f32 or integers,
/// which every edit needs, are [`Verdict::Fail`]. Checks among [`KNOWN_FAILURES`] are marked. (A
/// caught panic still calls the panic hook, which prints it unless the program has set another
/// one.)
///
/// ```
/// use editmgt_backends::{conformance, open};
///
/// # fn main() -> Result<(), editmgt_backends::DeviceError> {
/// let report = conformance::run(&open("cpu")?);
/// assert!(report.pass(), "{report}");
/// # Ok(())
/// # }
/// ```
pub fn run(device: &Device) -> ConformanceReport {
    let supported = Dtype::supported(device);
    let known = known::known_failures(device);
    let checks = checks().chain(checks_of(device)).flat_map(|check| {
        let dtypes = check.types.dtypes().iter();
        dtypes.map(|&dtype| check.run(device, dtype, &supported))
    });
    let mut report = ConformanceReport { checks: checks.collect() };
    report.mark(&known);
    report
}

impl Check {
    fn run(&self, device: &Device, dtype: Dtype, supported: &[Dtype]) -> CheckReport {
        let integers = self.types == Types::Ints;
        if !integers && !supported.contains(&dtype) {
            let reason = format!("the device does not support {dtype}");
            return self.report(dtype, None, Verdict::Unsupported { reason });
        }
        match caught(|| (self.answer)(&mut Inputs::new(device, dtype))) {
            Ok(answer) => self.judge(dtype, &answer),
            Err(reason) if dtype == Dtype::F32 => {
                self.report(dtype, None, Verdict::Fail { reason })
            }
            Err(reason) => self.report(dtype, None, Verdict::Unsupported { reason }),
        }
    }

    fn judge(&self, dtype: Dtype, answer: &Answer) -> CheckReport {
        let (max_error, verdict) = match answer.max_error() {
            Err(reason) => (None, Verdict::Fail { reason }),
            Ok(error) if error <= self.tolerance.of(dtype) => (Some(error), Verdict::Pass),
            Ok(error) => {
                let reason = "the error is above the tolerance".to_owned();
                (Some(error), Verdict::Fail { reason })
            }
        };
        self.report(dtype, max_error, verdict)
    }

    fn report(&self, dtype: Dtype, max_error: Option<f64>, verdict: Verdict) -> CheckReport {
        CheckReport {
            name: self.name.to_owned(),
            dtype: (self.types != Types::Ints).then_some(dtype),
            max_error,
            tolerance: self.tolerance.of(dtype),
            verdict,
            known: None,
        }
    }
}
