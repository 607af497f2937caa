//! Edits of scenes, and their composites under any thresholds.

use std::error::Error;
use std::sync::Arc;

use editmgt::image::RgbImage;
use editmgt::photo::{Blend, ChangeMask, ChangeThresholds, Composite, VisibleChange, codec_noise};
use editmgt::{
    CompositePolicy, DtypePolicy, EditRequest, EditResult, Editor, HoldMask, HoldPolicy,
    LoadOptions, Model, Photo, ResizePlan, TokenGrid,
};
use editmgt_eval::metrics::Differences;
use editmgt_world::{Category, Example, Split, World, trial};

use crate::simulated::{DriftingCodec, SynonymTransformer, synonyms};

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// What edits.
#[derive(Clone, Copy)]
pub(crate) struct Simulation {
    pub(crate) name: &'static str,
    /// Height of the drift's waves, levels of 255.
    drift: f32,
    /// Whether half of the positions predict near-synonyms.
    synonyms: bool,
    local: bool,
}

/// The small model as it is, and with the faults of other codecs.
pub(crate) const SIMULATIONS: [Simulation; 5] = [
    Simulation { name: "local", drift: 0.0, synonyms: false, local: true },
    Simulation { name: "local-synonyms", drift: 0.0, synonyms: true, local: true },
    Simulation { name: "global-weak", drift: 1.2, synonyms: true, local: false },
    Simulation { name: "global", drift: 2.5, synonyms: true, local: false },
    Simulation { name: "global-strong", drift: 5.0, synonyms: true, local: false },
];

impl Simulation {
    pub(crate) fn named(name: &str) -> Outcome<Self> {
        let found = SIMULATIONS.into_iter().find(|simulation| simulation.name == name);
        let names = SIMULATIONS.map(|simulation| simulation.name).join(", ");
        found.ok_or_else(|| format!("codec: expected one of {names}, got {name}").into())
    }

    pub(crate) fn is_local(&self) -> bool {
        self.local
    }

    pub(crate) fn editor(&self) -> Outcome<Editor> {
        let device = editmgt::open_default_device()?;
        let dtype = DtypePolicy::choose(&device, None)?;
        let mut model = Model::embedded(&LoadOptions::new(device.clone(), dtype), &[])?;
        if self.synonyms {
            let synonyms: Arc<[u32]> = synonyms(&*model.codec)?.into();
            let transformer = model.transformer;
            model.transformer =
                Box::new(SynonymTransformer { transformer, synonyms, device: device.clone() });
        }
        let codec = model.codec;
        let (amplitude, local) = (self.drift, self.local);
        model.codec = Box::new(DriftingCodec { codec, amplitude, local, device });
        Ok(Editor::new(model)?)
    }
}

/// An edit before its composite.
pub(crate) struct Edited {
    pub(crate) example: Example,
    pub(crate) photo: Photo,
    /// With [`CompositePolicy::All`].
    pub(crate) result: EditResult,
    pub(crate) decoded_photo: RgbImage,
    /// See [`codec_noise`].
    pub(crate) noise: f32,
}

/// Edits a scene.
pub(crate) fn edit(
    editor: &Editor,
    world: &World,
    at: (Split, u64),
    hold: &Option<HoldPolicy>,
) -> Outcome<Edited> {
    let request = request(hold).composite(CompositePolicy::All);
    let (_, example, result) = trial(editor, world, at, &request)?;
    let photo = Photo::from_rgb(example.pair.before.clone())?;
    let decoded = editor.model().codec.decode(&result.reference)?;
    let decoded_photo = result.report.plan.invert(decoded, &photo)?;
    let noise = codec_noise(photo.rgb(), &decoded_photo)?;
    Ok(Edited { example, photo, result, decoded_photo, noise })
}

/// A request with this hold policy, or the model's own.
pub(crate) fn request(hold: &Option<HoldPolicy>) -> EditRequest {
    match hold {
        Some(hold) => EditRequest::default().hold(hold.clone()),
        None => EditRequest::default(),
    }
}

impl Edited {
    /// What visibly changed.
    pub(crate) fn visible(&self, thresholds: ChangeThresholds) -> VisibleChange<'_> {
        VisibleChange {
            photo: self.photo.rgb(),
            edit: self.result.image.rgb(),
            decoded_photo: &self.decoded_photo,
            tokens: &self.result.tokens,
            reference: &self.result.reference,
            hold: &self.result.held,
            plan: &self.result.report.plan,
            thresholds,
        }
    }

    /// The image with the photo's pixels where the mask has no weight.
    pub(crate) fn composite(&self, change: &ChangeMask) -> Outcome<RgbImage> {
        let (photo, edit) = (self.photo.rgb(), self.result.image.rgb());
        Ok(Composite { photo, edit, change, blend: Blend::Srgb }.render()?)
    }

    /// The composite `held`.
    pub(crate) fn held(&self) -> Outcome<RgbImage> {
        self.composite(&ChangeMask::new(&self.result.held, 0, &self.result.report.plan)?)
    }

    /// Measures a composite of this edit.
    pub(crate) fn measure(&self, world: &World, image: &RgbImage) -> Outcome<Measured> {
        let pair = &self.example.pair;
        let mask = pair.changed.as_ref();
        let truth = Differences::between(image, &pair.after, mask)?;
        let before = Differences::between(image, &pair.before, mask)?;
        Ok(Measured {
            category: self.example.category,
            success: world.judge(&self.example, image)?.success,
            pixels_outside: before.outside.map(|outside| outside.changed),
            psnr_outside: before.outside.map(|outside| outside.psnr),
            l1_inside: truth.inside.map(|inside| inside.l1),
        })
    }
}

/// An edit as a perfect transformer makes it: its tokens are the codec's of the true image.
pub(crate) struct IdealEdit {
    pub(crate) photo: Photo,
    pub(crate) plan: ResizePlan,
    pub(crate) tokens: TokenGrid,
    pub(crate) reference: TokenGrid,
    edit: RgbImage,
    decoded_photo: RgbImage,
    hold: HoldMask,
}

impl IdealEdit {
    /// For images whose sides are multiples of the codec's patch.
    pub(crate) fn new(editor: &Editor, before: RgbImage, after: RgbImage) -> Outcome<Self> {
        let (photo, truth) = (Photo::from_rgb(before)?, Photo::from_rgb(after)?);
        let model = editor.model();
        let plan = ResizePlan::native(photo.size(), model.codec.spec().downsample_factor)?;
        let tokens = |photo: &Photo| model.codec.encode(plan.apply(photo, &model.device)?);
        let (reference, tokens) = (tokens(&photo)?, tokens(&truth)?);
        let decoded_photo = plan.invert(model.codec.decode(&reference)?, &photo)?;
        let edit = plan.invert(model.codec.decode(&tokens)?, &photo)?;
        let hold = HoldMask::none(1, tokens.size());
        Ok(Self { photo, plan, tokens, reference, edit, decoded_photo, hold })
    }

    pub(crate) fn noise(&self) -> Outcome<f32> {
        Ok(codec_noise(self.photo.rgb(), &self.decoded_photo)?)
    }

    /// Of each token whether it is not the photo's.
    pub(crate) fn ids_differ(&self) -> impl Iterator<Item = bool> {
        self.tokens.ids().iter().zip(self.reference.ids()).map(|(a, b)| a != b)
    }

    /// What visibly changed, nothing held.
    pub(crate) fn change(&self, editor: &Editor) -> Outcome<VisibleChange<'_>> {
        Ok(VisibleChange {
            photo: self.photo.rgb(),
            edit: &self.edit,
            decoded_photo: &self.decoded_photo,
            tokens: &self.tokens,
            reference: &self.reference,
            hold: &self.hold,
            plan: &self.plan,
            thresholds: ChangeThresholds::new(self.noise()?, editor.model().codec.is_local()),
        })
    }

    /// The image with the photo's pixels where nothing visibly changed.
    pub(crate) fn composite(&self, editor: &Editor) -> Outcome<RgbImage> {
        let change = self.change(editor)?.mask()?;
        let (photo, edit) = (self.photo.rgb(), &self.edit);
        Ok(Composite { photo, edit, change: &change, blend: Blend::Srgb }.render()?)
    }
}

/// Numbers of one composite.
pub(crate) struct Measured {
    pub(crate) category: Category,
    pub(crate) success: bool,
    pub(crate) pixels_outside: Option<f64>,
    pub(crate) psnr_outside: Option<f64>,
    pub(crate) l1_inside: Option<f64>,
}

impl Measured {
    pub(crate) fn is_local(&self) -> bool {
        !matches!(self.category, Category::Background | Category::Style)
    }
}
