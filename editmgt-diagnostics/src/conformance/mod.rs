//! Correctness of a device: its operations against exact numbers, and whole edits against another
//! device, token by token.
//!
//! Every draw of an edit is made on the host from its seed, so two devices differ only by the
//! rounding of their logits. A decision within rounding of another one is a tie; any other
//! differing token is an error of one of the two.
//!
//! Also the error of half precision for a model on a device: [`precision`](precision()).

mod precision;
#[cfg(test)]
mod tests;
mod trace;

use editmgt::{EditError, EditRequest, Editor, Photo};
use serde::Serialize;

pub use editmgt_backends::conformance::{
    CheckReport, ConformanceReport, KNOWN_FAILURES, KnownFailure, Verdict, run,
};
pub use precision::{
    CodecError, DtypePrecision, EditOutcome, EditPrecision, LogitError, PrecisionReport,
    ValueError, precision,
};

use trace::{EditTrace, StepTrace};

/// Tolerance of ties: shares of a distribution and scores, both 0..1. Several hundred times their
/// rounding in f32.
const TIE: f64 = 1e-4;

/// Agreement of two edits of one photo by one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EditAgreement {
    /// Tokens of the grid.
    pub tokens: usize,
    /// Tokens of the encoded photo that differ. If there are any, later results are not comparable.
    pub photo_differs: usize,
    /// Every step, in order.
    pub steps: Vec<StepAgreement>,
    /// The largest difference between the two results' pixels, in levels of 255.
    pub pixels_differ_by: u8,
}

/// Agreement of one step of two edits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StepAgreement {
    /// Tokens of the canvas that differ after it.
    pub differ: usize,
    /// The differing tokens that ties explain. Counted up to the first step that differs: later
    /// steps start from different canvases.
    pub ties: usize,
}

impl EditAgreement {
    /// Whether photo and tokens are equal after every step except for ties, and, without ties, the
    /// results too, up to one level of rounding.
    pub fn pass(&self) -> bool {
        let first = self.steps.iter().find(|step| step.differ > 0);
        self.photo_differs == 0
            && first.is_none_or(|step| step.ties == step.differ)
            && (first.is_some() || self.pixels_differ_by <= 1)
    }

    /// Tokens that differ because of a tie.
    pub fn ties(&self) -> usize {
        self.steps.iter().map(|step| step.ties).sum()
    }

    /// Steps after which every token is equal.
    pub fn steps_equal(&self) -> usize {
        self.steps.iter().filter(|step| step.differ == 0).count()
    }
}

/// Edits `photo` with two editors, the same model on two devices or in two precisions, and compares
/// the results.
///
/// ```
/// # #[cfg(feature = "embedded")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use editmgt::{EditRequest, Editor, Photo, open_device};
/// use editmgt_diagnostics::conformance;
///
/// let photo = Photo::open("testdata/scene.png")?;
/// let request = EditRequest::new("make the red car blue").steps(1);
/// let cpu = Editor::embedded().build()?;
/// // Any device of the build: "wgpu", "cuda:1", …
/// let other = Editor::embedded().device(open_device("flex")?).build()?;
/// let agreement = conformance::compare_edits(&cpu, &other, &photo, &request)?;
/// assert!(agreement.pass(), "{agreement:?}");
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "embedded"))]
/// # fn main() {}
/// ```
///
/// # Errors
/// Those of [`Editor::edit`].
pub fn compare_edits(
    reference: &Editor,
    other: &Editor,
    photo: &Photo,
    request: &EditRequest,
) -> Result<EditAgreement, EditError> {
    let expected = EditTrace::of(reference, photo, request)?;
    let got = EditTrace::of(other, photo, request)?;
    Ok(expected.agreement(&got))
}

impl EditTrace {
    fn agreement(&self, got: &Self) -> EditAgreement {
        let mut same_canvas = differing(&self.photo, &got.photo).next().is_none();
        let steps = self.steps.iter().zip(&got.steps).map(|(expected, got)| {
            let differ = differing(&expected.tokens, &got.tokens).count();
            let ties = if same_canvas { expected.ties(got) } else { 0 };
            same_canvas &= differ == 0;
            StepAgreement { differ, ties }
        });
        let steps = steps.collect();
        let levels = self.pixels.iter().zip(&got.pixels).map(|(a, b)| a.abs_diff(*b));
        EditAgreement {
            tokens: self.photo.len(),
            photo_differs: differing(&self.photo, &got.photo).count(),
            steps,
            pixels_differ_by: levels.max().unwrap_or(0),
        }
    }
}

/// Indices at which two lists of one length differ.
fn differing<'a, T: PartialEq>(a: &'a [T], b: &'a [T]) -> impl Iterator<Item = usize> + 'a {
    (0..a.len()).filter(move |&i| a[i] != b[i])
}

impl StepTrace {
    /// Of the tokens that differ from `got` after this step, begun on the same canvas, the number
    /// explained by ties: 0 if the models' predictions differ.
    fn ties(&self, got: &Self) -> usize {
        if !self.same_logits(got) {
            return 0;
        }
        let same_scores = self.scores.iter().zip(&got.scores).all(|(a, b)| near(*a, *b));
        let explained = |&at: &usize| {
            if self.held[at] != got.held[at] {
                // The threshold lies between scores that are equal within a tie.
                same_scores
            } else if self.predicted[at] != got.predicted[at] {
                self.is_near(at, got.predicted[at])
            } else {
                // The cut, which is made on the host, lies between confidences that are equal
                // within a tie.
                true
            }
        };
        differing(&self.tokens, &got.tokens).filter(explained).count()
    }

    /// Whether both models predict the same cumulative distribution of codes, within a tie.
    fn same_logits(&self, got: &Self) -> bool {
        let (codes, others) = (self.codes(), got.codes());
        let rows = self.logits.chunks(codes).zip(got.logits.chunks(others));
        let mut edges = rows.flat_map(|(row, other)| edges(row).into_iter().zip(edges(other)));
        codes == others && edges.all(|(a, b)| (a - b).abs() < TIE)
    }

    /// Whether the uniform that drew the token at `at` is within a tie of drawing `code`.
    fn is_near(&self, at: usize, code: u32) -> bool {
        let (codes, code) = (self.codes(), code as usize);
        if code >= codes {
            return false;
        }
        let edges = edges(&self.logits[at * codes..][..codes]);
        let (from, until) = (if code == 0 { 0.0 } else { edges[code - 1] }, edges[code]);
        (from - TIE..until + TIE).contains(&f64::from(self.uniforms[at]))
    }

    fn codes(&self) -> usize {
        self.logits.len() / self.tokens.len()
    }
}

/// The cumulative distribution of the codes, 0..1.
fn edges(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |max, &logit| max.max(logit));
    let mut edges: Vec<_> = logits.iter().map(|&logit| f64::from(logit - largest).exp()).collect();
    let mut sum = 0.0;
    for edge in &mut edges {
        sum += *edge;
        *edge = sum;
    }
    edges.iter_mut().for_each(|edge| *edge /= sum);
    edges
}

fn near(a: f32, b: f32) -> bool {
    f64::from(a - b).abs() < TIE
}
