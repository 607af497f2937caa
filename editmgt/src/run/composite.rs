//! The last stage of an edit: the photo's own bytes where it was not edited.

use std::sync::Arc;

use editmgt_core::{Error, HoldMask, Stage, Tiling, TokenGrid};
use image::RgbImage;

use super::finish::share;
use super::{PhotoRun, Stages};
use crate::error::EditError;
use crate::photo::{
    ChangeMask, ChangeThresholds, Composite, PixelSize, ResizePlan, VisibleChange, codec_noise,
    to_rgb,
};
use crate::report::{CompositeReport, PutBack};
use crate::request::{CompositePolicy, EditSettings};

/// A photo after the codec, at the model's size.
#[derive(Debug, Clone)]
pub(crate) struct DecodedPhoto {
    image: Arc<RgbImage>,
    /// See [`codec_noise`].
    noise: f32,
}

/// An edit's tokens, and what they are compared with.
pub(super) struct Edited<'a> {
    pub(super) tokens: &'a TokenGrid,
    pub(super) reference: &'a TokenGrid,
    pub(super) held: &'a HoldMask,
    pub(super) plan: ResizePlan,
}

/// An image and how it was put together.
pub(super) struct Composited {
    pub(super) image: RgbImage,
    pub(super) change: Option<ChangeMask>,
    pub(super) report: CompositeReport,
}

impl PhotoRun<'_> {
    /// Decodes the edit and puts the photo's pixels back.
    pub(super) fn composite(
        &self,
        edited: &Edited<'_>,
        settings: &EditSettings,
        stages: &mut Stages<'_>,
    ) -> Result<Composited, EditError> {
        let plan = &edited.plan;
        let policy = settings.composite;
        let mut report = CompositeReport { policy, ..CompositeReport::default() };
        let codec = &*self.editor.model().codec;
        let (decoded, own) = stages.run(Stage::Decode, || {
            let decoded = codec.decode_with(edited.tokens, settings.tile)?;
            let own = match policy {
                CompositePolicy::Visible => {
                    Some(self.decoded_photo(*plan, edited.reference, settings.tile)?)
                }
                CompositePolicy::Held | CompositePolicy::All => None,
            };
            Ok((decoded, own))
        })?;
        let edit = plan.invert(decoded, self.photo)?;
        if policy == CompositePolicy::All {
            return Ok(Composited { image: edit, change: None, report });
        }
        let mut released = ChangeMask::new(edited.held, 0, plan)?;
        if let Some(mask) = self.mask() {
            released = released.within(mask)?;
        }
        let change = match own {
            None => released.clone().feathered(settings.feather)?,
            Some(own) => {
                let thresholds = ChangeThresholds::new(own.noise, codec.is_local());
                report.codec_noise = Some(own.noise);
                report.thresholds = Some(thresholds);
                let decoded_photo = plan.restore(RgbImage::clone(&own.image), self.photo)?;
                let visible = VisibleChange {
                    photo: self.photo.rgb(),
                    edit: &edit,
                    decoded_photo: &decoded_photo,
                    tokens: edited.tokens,
                    reference: edited.reference,
                    hold: edited.held,
                    plan,
                    thresholds,
                };
                visible.mask()?.grown(settings.feather, &released)?
            }
        };
        report.put_back = put_back(edited, &released, &change);
        if self.mask().is_none() {
            report.note = report.put_back.note(share_changed(edited));
        }
        let (photo, blend) = (self.photo.rgb(), settings.blend);
        let image = Composite { photo, edit: &edit, change: &change, blend }.render()?;
        Ok(Composited { image, change: Some(change), report })
    }

    /// The photo's own tokens decoded, unless an earlier edit has.
    fn decoded_photo(
        &self,
        plan: ResizePlan,
        tokens: &TokenGrid,
        tiling: Tiling,
    ) -> Result<DecodedPhoto, Error> {
        let model = self.editor.model();
        self.features.decoded().get_or_make(plan, || {
            let image = to_rgb(model.codec.decode_with(tokens, tiling)?, plan.model())?;
            let seen = to_rgb(plan.apply(self.photo, &model.device)?, plan.model())?;
            let noise = codec_noise(&seen, &image)?;
            Ok(DecodedPhoto { image: Arc::new(image), noise })
        })
    }
}

fn share_changed(edited: &Edited<'_>) -> f32 {
    share(edited.tokens.ids().iter().zip(edited.reference.ids()).map(|(a, b)| a != b))
}

/// Why each pixel is the photo's, by the first reason of several.
fn put_back(edited: &Edited<'_>, released: &ChangeMask, change: &ChangeMask) -> PutBack {
    let Edited { tokens, reference, held, plan } = edited;
    let grid = held.size();
    let (rows, columns) = (plan.token_rows(grid.height), plan.token_columns(grid.width));
    let PixelSize { height, width } = plan.photo();
    let mut back = PutBack::default();
    let one = 1.0 / (height * width).max(1) as f32;
    let mut counts = [0usize; 5];
    for (i, &weight) in change.weights().iter().enumerate() {
        if weight > 0 {
            continue;
        }
        let token = rows[i / width].zip(columns[i % width]);
        let reason = match token.map(|(row, column)| row * grid.width + column) {
            None => 0,
            Some(token) if held.held()[token] => 1,
            Some(_) if released.weights()[i] == 0 => 2,
            Some(token) if tokens.ids()[token] == reference.ids()[token] => 3,
            Some(_) => 4,
        };
        counts[reason] += 1;
    }
    let [unseen, held, mask, unchanged, invisible] = counts.map(|count| count as f32 * one);
    back.unseen = unseen;
    back.held = held;
    back.mask = mask;
    back.unchanged = unchanged;
    back.invisible = invisible;
    back
}
