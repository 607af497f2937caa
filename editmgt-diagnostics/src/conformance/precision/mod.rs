//! Errors of half precision and of quantised weights: every stage of a model, and whole edits,
//! compared with f32.

mod difference;
mod inputs;
mod measured;
mod table;
#[cfg(test)]
mod tests;

use editmgt::{EditError, EditRequest, EditorBuilder, Photo, WeightBits};
use editmgt_backends::{Compute, Dtype, DtypePolicy};
use serde::Serialize;

pub use difference::ValueError;
use inputs::Case;
use measured::{CodecRun, Run};

/// Errors of a model in every half precision of a device. [`Display`](std::fmt::Display) prints a
/// table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PrecisionReport {
    /// The device.
    pub device: String,
    /// Identity of the model: see [`identity`](editmgt::identity()); `None` for custom parts.
    pub model: Option<String>,
    /// One entry for each half precision that the device supports, for int8 where the device
    /// computes in it, then for weights in 8 and in 4 bits (of a model that is stored so, none of
    /// them).
    pub dtypes: Vec<DtypePrecision>,
}

/// Errors of one dtype relative to f32.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DtypePrecision {
    /// The dtype.
    pub dtype: Dtype,
    /// What linear layers compute in.
    #[serde(skip_serializing_if = "Compute::is_dtype")]
    pub compute: Compute,
    /// The bits of quantised weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantize: Option<WeightBits>,
    /// Text features, rows and pooled vectors together.
    pub text: ValueError,
    /// Logits of a pass half-way through each edit, from f32 features.
    pub transformer: LogitError,
    /// The attention maps of these passes: the largest error, in units of the range of its map.
    pub attention: f64,
    /// The codec, which a [policy](DtypePolicy::choose) keeps in f32: the avoided error.
    pub codec: CodecError,
    /// The edits, with transformer and text encoder in this dtype and the codec in f32.
    pub edits: Vec<EditPrecision>,
}

impl DtypePrecision {
    /// `f16`, `int8`, `8 bits`.
    pub fn name(&self) -> String {
        match (self.quantize, self.compute) {
            (Some(bits), _) => bits.to_string(),
            (None, Compute::Dtype) => self.dtype.name().to_owned(),
            (None, compute) => compute.name().to_owned(),
        }
    }
}

/// Difference of the code distributions from those of f32.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogitError {
    /// Error of the logits.
    #[serde(flatten)]
    pub error: ValueError,
    /// The share of the positions, 0..1, with the same most likely code.
    pub same_best: f64,
    /// Mean Kullback-Leibler divergence of the distributions from those of f32, in nats, over the
    /// positions whose logits are all finite; `None` if there are none.
    pub divergence: Option<f64>,
}

/// Error of the codec relative to f32, on the photo of the first edit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CodecError {
    /// Tokens of the photo.
    pub tokens: usize,
    /// Tokens that differ.
    pub tokens_differ: usize,
    /// PSNR of the image decoded from f32's tokens, relative to f32's image, in dB, with 1 for
    /// white; `None` if they are equal, or a value is NaN.
    pub decoded_psnr: Option<f64>,
    /// Values of that image that are infinite or NaN.
    pub decoded_not_finite: usize,
}

/// One edit compared with the same in f32.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EditPrecision {
    /// The instruction.
    pub instruction: String,
    /// Its seed.
    pub seed: u64,
    /// The outcome.
    #[serde(flatten)]
    pub outcome: EditOutcome,
}

/// Outcome of an edit in another dtype.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum EditOutcome {
    /// A result.
    Done {
        /// Tokens of the canvas.
        tokens: usize,
        /// Tokens that differ after the last step.
        tokens_differ: usize,
        /// The largest difference between the results' pixels, in levels of 255.
        pixels_differ_by: u8,
    },
    /// No result, for instance because activations overflow the dtype.
    Failed {
        /// The error.
        error: String,
    },
}

/// Measures the error of each half precision of the device, of int8, and of weights in 8 and 4
/// bits, for the model of `builder` on these edits of `photo`, relative to f32. The builder's own
/// dtypes and quantisation are ignored. One model is loaded at a time.
///
/// Each stage gets the same input in every dtype: the texts, and features, tokens and canvases
/// computed in f32. Errors of one stage are therefore not propagated to the next; whole edits show
/// their combined effect.
///
/// ```
/// # #[cfg(feature = "embedded")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use editmgt::{EditRequest, Editor, Photo, open_device};
/// use editmgt_diagnostics::conformance;
///
/// let photo = Photo::open("testdata/scene.png")?;
/// let edits = [EditRequest::new("make the red car blue")];
/// // Any device of the build: "wgpu", "cuda:1", …
/// let builder = Editor::embedded().device(open_device("flex")?);
/// let report = conformance::precision(&builder, &photo, &edits)?;
/// println!("{report}");
/// assert!(report.dtypes.iter().all(|half| half.transformer.same_best > 0.9));
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "embedded"))]
/// # fn main() {}
/// ```
///
/// # Errors
/// [`EditError::Option`] without edits; those of [`EditorBuilder::build`]; those of
/// [`Editor::edit`](editmgt::Editor::edit) in f32. An edit that fails in another dtype is an
/// [outcome](EditOutcome::Failed).
pub fn precision(
    builder: &EditorBuilder,
    photo: &Photo,
    edits: &[EditRequest],
) -> Result<PrecisionReport, EditError> {
    if edits.is_empty() {
        return Err(EditError::option("edits", "at least one", "none"));
    }
    let device = builder.device_or_default()?;
    let builder = builder.clone().device(device.clone()).quantize(None);
    let load = |dtype| builder.clone().dtype(dtype).build();

    let editor = load(DtypePolicy::uniform(Dtype::F32))?;
    let cases = edits.iter().map(|edit| Case::new(&editor, photo, edit));
    let cases = cases.collect::<Result<Vec<_>, _>>()?;
    let first = &cases[0];
    let exact = Run::of(&editor, photo, &cases)?;
    let exact_codec = CodecRun::of(&editor, first)?;
    if let Some(EditPrecision { outcome: EditOutcome::Failed { error }, instruction, .. }) =
        exact.failed(&cases)
    {
        let got = format!("{instruction:?}: {error}");
        return Err(EditError::option("edits", "edits that work in f32", got));
    }
    let source = editor.model().source.clone();
    let is_stored_quantized = source.as_ref().is_none_or(|source| !source.quantization.is_none());
    let model = source.map(|source| source.sha256);
    drop(editor);

    let halves = Dtype::supported(&device).into_iter().filter(|dtype| *dtype != Dtype::F32);
    let halves = halves.map(|dtype| (DtypePolicy::networks(dtype), None));
    let f32 = DtypePolicy::uniform(Dtype::F32);
    let int8 = f32.with_compute(Compute::Int8);
    let int8 = int8.check(&device).is_ok().then_some((int8, None));
    let bits = [WeightBits::Eight, WeightBits::Four].map(|bits| (f32, Some(bits)));
    let bits = bits.into_iter().filter(|_| !is_stored_quantized);

    let mut dtypes = Vec::new();
    for (policy, quantize) in halves.chain(int8).chain(bits) {
        let editor = builder.clone().dtype(policy).quantize(quantize).build()?;
        let run = Run::of(&editor, photo, &cases)?;
        drop(editor);
        let dtype = policy.transformer;
        // Else the codec is that of f32: it is neither quantised nor computed in int8.
        let codec = if dtype == Dtype::F32 {
            exact_codec.error(&exact_codec)
        } else {
            exact_codec.error(&CodecRun::of(&load(DtypePolicy::uniform(dtype))?, first)?)
        };
        dtypes.push(DtypePrecision {
            dtype,
            compute: policy.compute,
            quantize,
            text: exact.text_error(&run),
            transformer: exact.logit_error(&run),
            attention: exact.map_error(&run),
            codec,
            edits: exact.edit_errors(&run, &cases),
        });
    }
    Ok(PrecisionReport { device: format!("{device:?}"), model, dtypes })
}
