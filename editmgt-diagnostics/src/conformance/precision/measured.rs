//! Outputs of a model's stages, on the host.

use burn::tensor::Tensor;
use editmgt::{EditError, Editor, Photo};
use editmgt_core::{AttentionMaps, Error, Result};

use super::difference::{self, Distributions, ValueError};
use super::inputs::{self, Case};
use super::{CodecError, EditOutcome, EditPrecision, LogitError};
use crate::conformance::differing;

/// Outputs of all stages but the codec.
pub(super) struct Run {
    /// Rows and pooled vectors of each case.
    texts: Vec<Vec<f32>>,
    /// `[positions, codes]` of each case.
    logits: Vec<Vec<f32>>,
    codes: usize,
    maps: Vec<AttentionMaps>,
    edits: Vec<std::result::Result<Edited, String>>,
}

/// Result of an edit.
struct Edited {
    tokens: Vec<u32>,
    /// RGB.
    pixels: Vec<u8>,
}

impl Run {
    pub(super) fn of(
        editor: &Editor,
        photo: &Photo,
        cases: &[Case],
    ) -> std::result::Result<Self, EditError> {
        let codes = editor.model().transformer.spec().codebook_size;
        let mut run = Self { texts: vec![], logits: vec![], codes, maps: vec![], edits: vec![] };
        for case in cases {
            let text = inputs::encode(editor, &case.texts)?;
            let mut values = host("reading text features", text.hidden)?;
            values.extend(host("reading text features", text.pooled)?);
            run.texts.push(values);
            let output = case.pass(editor)?;
            run.logits.push(host("reading logits", output.logits)?);
            run.maps.extend(output.maps);
            let edited = editor.edit(photo, &case.request);
            run.edits.push(edited.map_err(|error| error.to_string()).map(|result| Edited {
                tokens: result.tokens.ids().to_vec(),
                pixels: result.image.rgb().as_raw().clone(),
            }));
        }
        Ok(run)
    }

    pub(super) fn text_error(&self, got: &Self) -> ValueError {
        ValueError::new(pairs(&self.texts, &got.texts))
    }

    pub(super) fn logit_error(&self, got: &Self) -> LogitError {
        let mut distributions = Distributions::default();
        for (exact, got) in pairs(&self.logits, &got.logits) {
            for (exact, got) in exact.chunks(self.codes).zip(got.chunks(self.codes)) {
                distributions.add(exact, got);
            }
        }
        LogitError {
            error: ValueError::new(pairs(&self.logits, &got.logits)),
            same_best: distributions.same_best(),
            divergence: distributions.divergence(),
        }
    }

    pub(super) fn map_error(&self, got: &Self) -> f64 {
        let layers = self.maps.iter().zip(&got.maps).flat_map(|(exact, got)| {
            let layers = 0..exact.blocks().len();
            layers.map(|layer| difference::map_error(exact.map(layer, 0), got.map(layer, 0)))
        });
        layers.fold(0.0, f64::max)
    }

    pub(super) fn edit_errors(&self, got: &Self, cases: &[Case]) -> Vec<EditPrecision> {
        let both = self.edits.iter().zip(&got.edits).zip(cases);
        both.map(|((exact, got), case)| EditPrecision {
            instruction: case.request.instruction.clone(),
            seed: case.request.seed,
            outcome: match (exact, got) {
                (Ok(exact), Ok(got)) => exact.outcome(got),
                (Err(error), _) | (_, Err(error)) => EditOutcome::Failed { error: error.clone() },
            },
        })
        .collect()
    }

    /// The error of the first failed edit.
    pub(super) fn failed(&self, cases: &[Case]) -> Option<EditPrecision> {
        let mut edits = self.edit_errors(self, cases).into_iter();
        edits.find(|edit| matches!(edit.outcome, EditOutcome::Failed { .. }))
    }
}

impl Edited {
    fn outcome(&self, got: &Self) -> EditOutcome {
        let levels = self.pixels.iter().zip(&got.pixels).map(|(a, b)| a.abs_diff(*b));
        EditOutcome::Done {
            tokens: self.tokens.len(),
            tokens_differ: differing(&self.tokens, &got.tokens).count(),
            pixels_differ_by: levels.max().unwrap_or(0),
        }
    }
}

/// Outputs of the codec.
pub(super) struct CodecRun {
    tokens: Vec<u32>,
    picture: Vec<f32>,
}

impl CodecRun {
    /// Encodes the image of `case`, and decodes its tokens.
    pub(super) fn of(editor: &Editor, case: &Case) -> Result<Self> {
        let codec = &editor.model().codec;
        Ok(Self {
            tokens: codec.encode(case.picture.clone())?.ids().to_vec(),
            picture: host("reading the decoded image", codec.decode(&case.reference)?)?,
        })
    }

    pub(super) fn error(&self, got: &Self) -> CodecError {
        CodecError {
            tokens: self.tokens.len(),
            tokens_differ: differing(&self.tokens, &got.tokens).count(),
            decoded_psnr: difference::psnr(&self.picture, &got.picture),
            decoded_not_finite: got.picture.iter().filter(|value| !value.is_finite()).count(),
        }
    }
}

fn pairs<'a>(
    exact: &'a [Vec<f32>],
    got: &'a [Vec<f32>],
) -> impl Iterator<Item = (&'a [f32], &'a [f32])> {
    exact.iter().zip(got).map(|(exact, got)| (&exact[..], &got[..]))
}

fn host<const D: usize>(doing: &'static str, values: Tensor<D>) -> Result<Vec<f32>> {
    values.try_into_vec_as::<f32>().map_err(|error| Error::device(doing, error))
}
