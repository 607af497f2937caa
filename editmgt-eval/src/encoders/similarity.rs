//! Similarity of an edited image to others and to captions, by CLIP and DINO features.

use editmgt::EditError;
use editmgt_train::data::Captions;
use editmgt_world::Metrics;
use image::RgbImage;
use serde_json::{Value, json};

use super::{Clip, Dino};
use crate::encoders::Result as StageResult;
use crate::{EvalError, Measured, Suite};

/// The encoders of a similarity measurement; each is optional.
#[derive(Default)]
pub struct Encoders {
    /// CLIP.
    pub clip: Option<Clip>,
    /// DINO.
    pub dino: Option<Dino>,
}

/// An edit to be compared.
#[derive(Debug, Clone, Copy)]
pub struct Compared<'a> {
    /// The photo.
    pub before: &'a RgbImage,
    /// The edited photo.
    pub after: &'a RgbImage,
    /// The true edited image, if known.
    pub truth: Option<&'a RgbImage>,
    /// Captions of the photo and of the true image.
    pub captions: &'a Captions,
}

impl Encoders {
    /// Whether there is no encoder.
    pub fn is_empty(&self) -> bool {
        self.clip.is_none() && self.dino.is_none()
    }

    /// Cosine similarities of features, -1..=1, by the names in `docs/evaluation.md`, for each
    /// available encoder; those with captions or the true image only if these are known.
    ///
    /// Sources: Gal et al., 2021 (StyleGAN-NADA) for the direction; the evaluations of MagicBrush
    /// (Zhang et al., 2023) for the similarity to the true image and of Emu Edit (Sheynin et al.,
    /// 2023) for that to the photo and to the caption.
    ///
    /// # Errors
    /// Those of [`Clip::images`], [`Clip::captions`] and [`Dino::images`].
    pub fn compare(&self, edit: &Compared<'_>) -> StageResult<Metrics> {
        let pictures: Vec<_> = [edit.before, edit.after].into_iter().chain(edit.truth).collect();
        let mut found = Vec::new();
        let to_truth = |features: &[Vec<f32>]| cosine(&features[1], features.get(2)?);
        if let Some(clip) = &self.clip {
            let pictures = clip.images(&pictures)?;
            found.push(("clip_i", to_truth(&pictures)));
            found.push(("clip_i_from_photo", cosine(&pictures[1], &pictures[0])));
            if let Some(after) = &edit.captions.after {
                let after = &clip.captions(&[after])?[0];
                found.push(("clip_t", cosine(&pictures[1], after)));
                if let Some(before) = &edit.captions.before {
                    let before = &clip.captions(&[before])?[0];
                    let direction = direction([&pictures[0], &pictures[1]], [before, after]);
                    found.push(("clip_direction", direction));
                }
            }
        }
        if let Some(dino) = &self.dino {
            let pictures = dino.images(&pictures)?;
            found.push(("dino_i", to_truth(&pictures)));
            found.push(("dino_i_from_photo", cosine(&pictures[1], &pictures[0])));
        }
        let known = found.into_iter().filter_map(|(name, value)| Some((name, value?)));
        Ok(known.fold(Metrics::default(), |metrics, (name, value)| metrics.with(name, value)))
    }

    fn identity(&self) -> Value {
        let clip = self.clip.as_ref().map(|clip| json!({"sha256": clip.sha256()}));
        let dino = self.dino.as_ref().map(|dino| json!({"sha256": dino.sha256()}));
        json!({"clip": clip, "dino": dino})
    }
}

/// A suite with additional similarity metrics by CLIP, DINO or both.
pub struct WithSimilarity<'a> {
    /// The suite.
    pub suite: &'a dyn Suite,
    /// The encoders.
    pub encoders: &'a Encoders,
}

impl Suite for WithSimilarity<'_> {
    fn identity(&self) -> Result<Value, EvalError> {
        let mut identity = self.suite.identity()?;
        identity["encoders"] = self.encoders.identity();
        Ok(identity)
    }

    fn len(&self) -> u64 {
        self.suite.len()
    }

    fn captions(&self, index: u64) -> Captions {
        self.suite.captions(index)
    }

    fn measure(&self, index: u64) -> Result<Measured, EvalError> {
        let mut measured = self.suite.measure(index)?;
        if let Some(panels) = &measured.panels {
            let edit = Compared {
                before: &panels.before,
                after: &panels.after,
                truth: panels.truth.as_ref(),
                captions: &self.captions(index),
            };
            let found = self.encoders.compare(&edit);
            let found = found.map_err(EditError::from).map_err(EvalError::edit(index))?;
            measured.record.metrics = measured.record.metrics.and(&found);
        }
        Ok(measured)
    }
}

/// Cosine similarity of two features of equal width; `None` if one of them is 0.
fn cosine(a: &[f32], b: &[f32]) -> Option<f64> {
    angle(&wide(a), &wide(b))
}

/// Cosine of the difference between the two image features and the difference between the two
/// caption features, all normalised first. 0 for equal image features; `None` if the captions are
/// equal or a feature is 0.
fn direction(pictures: [&[f32]; 2], captions: [&[f32]; 2]) -> Option<f64> {
    let way = |[from, to]: [&[f32]; 2]| -> Option<Vec<f64>> {
        let (from, to) = (unit(from)?, unit(to)?);
        Some(to.iter().zip(&from).map(|(to, from)| to - from).collect())
    };
    let (pictures, captions) = (way(pictures)?, way(captions)?);
    if norm(&captions) == 0.0 {
        return None;
    }
    Some(angle(&pictures, &captions).unwrap_or(0.0))
}

fn angle(a: &[f64], b: &[f64]) -> Option<f64> {
    let lengths = norm(a) * norm(b);
    let product: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    // Rounding can exceed 1.
    (lengths > 0.0).then(|| (product / lengths).clamp(-1.0, 1.0))
}

fn unit(a: &[f32]) -> Option<Vec<f64>> {
    let a = wide(a);
    let length = norm(&a);
    (length > 0.0).then(|| a.iter().map(|value| value / length).collect())
}

fn norm(a: &[f64]) -> f64 {
    a.iter().map(|value| value * value).sum::<f64>().sqrt()
}

fn wide(a: &[f32]) -> Vec<f64> {
    a.iter().copied().map(f64::from).collect()
}
