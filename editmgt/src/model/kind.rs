//! Which released family a model belongs to, what it was trained for, and what its official scripts
//! use.

use std::fmt;
use std::path::Path;

use editmgt_sampler::MaskingSchedule;
use editmgt_text::DEFAULT_NEGATIVE_PROMPT;
use serde_json::{Map, Value};

use super::loaded::Model;
use crate::error::{EditError, ModelError};
use crate::request::{EditDefaults, GenerateDefaults, Job, Task};

/// Tokens along each side of the square that a transformer is made for, as its blocks see it: 64
/// with down and up blocks (1024 pixels with the official codec), 32 without (512 pixels).
const NATIVE_CELLS: usize = 32;

/// The family of a model, by the config of its transformer.
///
/// | family | in the config | trained for | generate | inpaint |
/// |---|---|---|---|---|
/// | EditMGT | `connector_type` other than `none` | edit, generate, inpaint | 36 steps, guidance 6 | 36 steps, guidance 6 |
/// | Meissonic | none of the others, `downsample` true | generate, inpaint | 64 steps, guidance 9 | 64 steps, guidance 9, linear |
/// | Monetico | none of the others, `downsample` false | generate, inpaint | 48 steps, guidance 9 | 48 steps, guidance 9, linear |
/// | Muddit | the class `SymmetricTransformer2DModel` | generate, inpaint | 64 steps, guidance 9 | 64 steps, guidance 9, linear |
/// | aMUSEd | the class `UVit2DModel` | generate, inpaint | 12 steps, guidance 10, no negative prompt | the same, linear |
/// | small | `text_encoder_architecture` `small` | edit, inpaint | as EditMGT | as EditMGT |
///
/// The numbers are those of the official scripts, for Monetico and aMUSEd those of the pipelines'
/// signatures; EditMGT's are those of its edits. *Linear* is the masking schedule of the official
/// inpainting pipelines, whatever the scheduler's config says. Temperatures are 2 to 0 for all. The
/// negative prompt is EditMGT's, which is Meissonic's, unless the table says otherwise.
/// `edit_defaults.json` in the model's folder overrides any of it
/// ([`EditDefaults`], with `trained_for`, `generate` and `inpaint`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelKind {
    /// Trained to edit from a reference stream.
    EditMgt,
    /// Text to image at 1024 pixels.
    Meissonic,
    /// Text to image at 512 pixels.
    Monetico,
    /// Images and captions, at 512 pixels.
    Muddit,
    /// The U-ViT of aMUSEd, made for a square of this many tokens a side: `sample_size`.
    Amused {
        /// Tokens along each side.
        tokens: usize,
    },
    /// A small model that this library trained.
    Small,
    /// A transformer of your own: everything is allowed.
    Custom,
}

/// What the official script of a family sets for a task.
struct Script {
    steps: usize,
    guidance_scale: f32,
    negative_prompt: &'static str,
    /// In the place of the scheduler config's.
    masking_schedule: Option<MaskingSchedule>,
}

impl Script {
    const fn new(steps: usize, guidance_scale: f32, negative_prompt: &'static str) -> Self {
        Self { steps, guidance_scale, negative_prompt, masking_schedule: None }
    }

    /// The official inpainting pipelines set a linear schedule in their constructors.
    const fn linear(self) -> Self {
        Self { masking_schedule: Some(MaskingSchedule::Linear), ..self }
    }
}

/// A row of the table above.
struct Family {
    name: &'static str,
    trained_for: &'static [Job],
    generate: Script,
    inpaint: Script,
}

impl ModelKind {
    /// The one table of what official scripts do.
    fn family(self) -> Family {
        const LONG: &str = DEFAULT_NEGATIVE_PROMPT;
        const BASE: &[Job] = &[Job::Generate, Job::Inpaint];
        const ALL: &[Job] = &[Job::Edit, Job::Generate, Job::Inpaint];
        let family =
            |name, trained_for, generate, inpaint| Family { name, trained_for, generate, inpaint };
        let edits = || Script::new(36, 6.0, LONG);
        let (scripts, signature) = (|| Script::new(64, 9.0, LONG), || Script::new(48, 9.0, LONG));
        let amused = || Script::new(12, 10.0, "");
        match self {
            Self::EditMgt => family("EditMGT", ALL, edits(), edits()),
            Self::Meissonic => family("Meissonic", BASE, scripts(), scripts().linear()),
            Self::Monetico => family("Monetico", BASE, signature(), signature().linear()),
            Self::Muddit => family("Muddit", BASE, scripts(), scripts().linear()),
            Self::Amused { .. } => family("aMUSEd", BASE, amused(), amused().linear()),
            Self::Small => family("small", &[Job::Edit, Job::Inpaint], edits(), edits()),
            Self::Custom => family("custom", ALL, edits(), edits()),
        }
    }

    /// Reads the config in a transformer's folder.
    ///
    /// # Errors
    /// [`ModelError::Io`], [`ModelError::Folder`] for a file that is not a JSON object.
    pub fn read(transformer: &Path) -> Result<Self, ModelError> {
        let path = transformer.join("config.json");
        let text = editmgt_store::read_text(&path)?;
        Self::of_config(&text).map_err(|error| ModelError::folder(path, error.to_string()))
    }

    /// The family of a transformer with this config. What it can't be told by is left to the reader
    /// of the config.
    ///
    /// # Errors
    /// The parser's, for a text that is not a JSON object.
    pub fn of_config(text: &str) -> Result<Self, serde_json::Error> {
        /// The official class's default.
        const SAMPLE_SIZE: usize = 64;
        let config: Map<String, Value> = serde_json::from_str(text)?;
        let word = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default();
        let connected = !matches!(word("connector_type"), "" | "none");
        Ok(match word("_class_name") {
            "UVit2DModel" => {
                let tokens = config.get("sample_size").and_then(Value::as_u64);
                let tokens = tokens.and_then(|tokens| usize::try_from(tokens).ok());
                Self::Amused { tokens: tokens.filter(|&n| n > 0).unwrap_or(SAMPLE_SIZE) }
            }
            "SymmetricTransformer2DModel" => Self::Muddit,
            _ if word("text_encoder_architecture") == "small" => Self::Small,
            _ if connected => Self::EditMgt,
            _ if config.get("downsample") == Some(&Value::Bool(true)) => Self::Meissonic,
            _ => Self::Monetico,
        })
    }

    /// What models of this family were trained for.
    pub fn trained_for(self) -> &'static [Job] {
        self.family().trained_for
    }

    /// Tokens along each side of the square that the model was trained on; `grid_factor` is the
    /// transformer's ([`TransformerSpec`](crate::TransformerSpec)).
    pub fn native_tokens(self, grid_factor: usize) -> usize {
        match self {
            Self::Amused { tokens } => tokens,
            // It has down blocks at 512 pixels, too.
            Self::Muddit => NATIVE_CELLS,
            _ => NATIVE_CELLS * grid_factor,
        }
    }
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.family().name)
    }
}

impl Model {
    /// What the model was trained for: what its folder says in `trained_for` of
    /// `edit_defaults.json`, else what is known of its family.
    pub fn trained_for(&self) -> &[Job] {
        self.defaults.trained_for.as_deref().unwrap_or(self.kind.trained_for())
    }

    /// Whether the photo's tokens go to the transformer as a reference: it takes one, and was
    /// trained to edit.
    pub(crate) fn conditions_on_photo(&self) -> bool {
        self.trained_for().contains(&Job::Edit) && self.transformer.takes_reference()
    }

    /// Side of the square that the model was trained on, in pixels.
    pub(crate) fn native_side(&self) -> usize {
        let tokens = self.kind.native_tokens(self.transformer.spec().grid_factor);
        tokens * self.codec.spec().downsample_factor
    }

    /// What the family's official script sets for a task, and the scheduler's config.
    pub(crate) fn script_defaults(&self, task: Task) -> EditDefaults {
        let of_config = EditDefaults {
            masking_schedule: Some(self.scheduler.masking_schedule),
            ..EditDefaults::default()
        };
        if !task.is_inpainting() {
            return of_config;
        }
        let script = self.kind.family().inpaint;
        EditDefaults {
            steps: Some(script.steps),
            guidance_scale: Some(script.guidance_scale),
            negative_prompt: Some(script.negative_prompt.to_owned()),
            masking_schedule: script.masking_schedule,
            ..EditDefaults::default()
        }
        .or(of_config)
    }

    /// Defaults of generating images: the folder's for that, the folder's, the family's script.
    pub(crate) fn generate_defaults(&self) -> GenerateDefaults {
        let folder = &self.defaults;
        let script = self.kind.family().generate;
        let side = folder.size.unwrap_or_else(|| self.native_side());
        let own = folder.generate.as_deref().cloned().unwrap_or_default();
        own.or(GenerateDefaults {
            negative_prompt: folder.negative_prompt.clone(),
            steps: folder.steps,
            guidance_scale: folder.guidance_scale,
            guidance_interval: folder.guidance_interval,
            temperature: folder.temperature,
            masking_schedule: folder.masking_schedule,
            width: Some(side),
            height: Some(side),
        })
        .or(GenerateDefaults {
            steps: Some(script.steps),
            guidance_scale: Some(script.guidance_scale),
            negative_prompt: Some(script.negative_prompt.to_owned()),
            masking_schedule: script.masking_schedule.or(Some(self.scheduler.masking_schedule)),
            ..GenerateDefaults::default()
        })
    }
}

/// Refuses a job that is not among those that a model was trained for.
pub(crate) fn check_trained_for(
    kind: ModelKind,
    trained_for: &[Job],
    job: Job,
    anyway: bool,
) -> Result<(), EditError> {
    if anyway || trained_for.contains(&job) {
        return Ok(());
    }
    Err(EditError::NotTrained { job, kind, trained_for: trained_for.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_told_by_their_configs() {
        let edits = |kind: ModelKind| kind.trained_for().contains(&Job::Edit);
        let generates = |kind: ModelKind| kind.trained_for().contains(&Job::Generate);
        for (config, kind, native, edit, generate) in [
            (
                r#"{"_class_name": "Transformer2DModel", "connector_type": "linear",
                    "text_encoder_architecture": "CLIP_Gemma2", "downsample": true}"#,
                ModelKind::EditMgt,
                64,
                true,
                true,
            ),
            (
                r#"{"_class_name": "Transformer2DModel", "downsample": true, "upsample": true}"#,
                ModelKind::Meissonic,
                64,
                false,
                true,
            ),
            (
                r#"{"_class_name": "Transformer2DModel", "downsample": false,
                    "connector_type": "none", "text_encoder_architecture": "CLIP"}"#,
                ModelKind::Monetico,
                32,
                false,
                true,
            ),
            (
                r#"{"_class_name": "SymmetricTransformer2DModel", "downsample": true,
                    "tokenizer_vocab_size": 49408, "t5_dim": null}"#,
                ModelKind::Muddit,
                32,
                false,
                true,
            ),
            (
                r#"{"_class_name": "UVit2DModel", "sample_size": 32, "downsample": true}"#,
                ModelKind::Amused { tokens: 32 },
                32,
                false,
                true,
            ),
            (
                r#"{"_class_name": "UVit2DModel", "sample_size": 16}"#,
                ModelKind::Amused { tokens: 16 },
                16,
                false,
                true,
            ),
            (
                r#"{"text_encoder_architecture": "small", "connector_type": "linear",
                    "downsample": true}"#,
                ModelKind::Small,
                64,
                true,
                false,
            ),
        ] {
            let got = ModelKind::of_config(config).unwrap();
            assert_eq!(got, kind, "{config}");
            let grid_factor = if config.contains("\"downsample\": true") { 2 } else { 1 };
            assert_eq!(got.native_tokens(grid_factor), native, "{config}");
            assert_eq!((edits(got), generates(got)), (edit, generate), "{config}");
        }
        assert!(ModelKind::of_config("[]").is_err());
    }

    #[test]
    fn official_inpainting_of_bases_is_linear() {
        for kind in [
            ModelKind::Meissonic,
            ModelKind::Monetico,
            ModelKind::Muddit,
            ModelKind::Amused { tokens: 32 },
        ] {
            let family = kind.family();
            assert_eq!(family.inpaint.masking_schedule, Some(MaskingSchedule::Linear), "{kind}");
            assert_eq!(family.generate.masking_schedule, None, "{kind}");
        }
        assert_eq!(ModelKind::EditMgt.family().inpaint.masking_schedule, None);
    }
}
