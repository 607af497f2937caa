//! What half precision costs: every stage of a model, and whole edits, beside the same in f32.

mod difference;
mod inputs;
mod measured;
mod table;
#[cfg(test)]
mod tests;

use editmgt::{EditError, EditRequest, EditorBuilder, Photo};
use editmgt_backends::{Dtype, DtypePolicy};
use serde::Serialize;

pub use difference::ValueError;
use inputs::Case;
use measured::{CodecRun, Run};

/// What every half precision of a device costs a model. [`Display`](std::fmt::Display) makes a
/// table of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PrecisionReport {
    /// The device.
    pub device: String,
    /// Tells models apart: see [`identity`](editmgt::identity()); `None` for parts of your own.
    pub model: Option<String>,
    /// One entry for each half precision that the device has, none where it has f32 alone.
    pub dtypes: Vec<DtypePrecision>,
}

/// What one dtype costs, beside f32.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DtypePrecision {
    /// The dtype.
    pub dtype: Dtype,
    /// Features of the texts, rows and pooled vectors together.
    pub text: ValueError,
    /// Logits of a pass half-way through each edit, from the features of f32.
    pub transformer: LogitError,
    /// The attention maps of these passes: the largest error, in units of the range of its map.
    pub attention: f64,
    /// The codec, which a [policy](DtypePolicy::choose) leaves in f32: what that spares.
    pub codec: CodecError,
    /// The edits, with transformer and text encoder in this dtype and the codec in f32.
    pub edits: Vec<EditPrecision>,
}

/// How far the distributions over the codes are from those of f32.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogitError {
    /// Of the logits.
    #[serde(flatten)]
    pub error: ValueError,
    /// The share of the positions, 0..1, whose most likely code is the same.
    pub same_best: f64,
    /// The Kullback-Leibler divergence of the distributions from those of f32, nats, mean over
    /// the positions whose logits are all finite; `None` where there are none.
    pub divergence: Option<f64>,
}

/// How far the codec is from that in f32, on the photo of the first edit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CodecError {
    /// Tokens of the photo.
    pub tokens: usize,
    /// Those of them that differ.
    pub tokens_differ: usize,
    /// Of the picture decoded from f32's tokens, beside that of f32, dB, with 1 for white; `None`
    /// where they are equal, or a value is no number.
    pub decoded_psnr: Option<f64>,
    /// Values of that picture that are infinite or no numbers.
    pub decoded_not_finite: usize,
}

/// One edit beside the same in f32.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EditPrecision {
    /// What was asked for.
    pub instruction: String,
    /// Its seed.
    pub seed: u64,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: EditOutcome,
}

/// What came of an edit in another dtype.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum EditOutcome {
    /// A result.
    Done {
        /// Tokens of the canvas.
        tokens: usize,
        /// Those of them that differ after the last step.
        tokens_differ: usize,
        /// The largest difference between the results' pixels, in levels of 255.
        pixels_differ_by: u8,
    },
    /// None: activations that overflow the dtype, for instance.
    Failed {
        /// Why.
        error: String,
    },
}

/// Measures what each half precision of the device costs the model of `builder` on these edits of
/// `photo`, beside f32. The builder's own dtypes are not read. One model is loaded at a time.
///
/// Each stage gets the same input in every dtype: texts as they are, features, tokens and canvases
/// as f32 makes them. So errors of one stage do not count in the next one; whole edits show what
/// all of them together come to.
///
/// ```
/// # #[cfg(feature = "embedded")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use editmgt::{EditRequest, Editor, Photo, open_device};
/// use editmgt_diagnostics::conformance;
///
/// let photo = Photo::open("testdata/scene.png")?;
/// let edits = [EditRequest::new("make the red circle blue")];
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
/// [`EditError::Option`] where there is no edit; those of [`EditorBuilder::build`]; those of
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
    let builder = builder.clone().device(device.clone());
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
    let model = editor.model().source.as_ref().map(|source| source.sha256.clone());
    drop(editor);

    let mut dtypes = Vec::new();
    for dtype in Dtype::supported(&device).into_iter().filter(|dtype| *dtype != Dtype::F32) {
        let run = Run::of(
            &load(DtypePolicy { vq: Dtype::F32, ..DtypePolicy::uniform(dtype) })?,
            photo,
            &cases,
        )?;
        let codec = CodecRun::of(&load(DtypePolicy::uniform(dtype))?, first)?;
        dtypes.push(DtypePrecision {
            dtype,
            text: exact.text_error(&run),
            transformer: exact.logit_error(&run),
            attention: exact.map_error(&run),
            codec: exact_codec.error(&codec),
            edits: exact.edit_errors(&run, &cases),
        });
    }
    Ok(PrecisionReport { device: format!("{device:?}"), model, dtypes })
}
