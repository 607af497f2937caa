//! Edit images by instruction with a masked generative transformer (EditMGT): a VQ codec turns
//! the photo into tokens, a transformer fills a masked canvas in a few parallel steps while the
//! photo's own tokens are conditions, its attention locates the edit, and tokens outside it stay
//! the photo's.
//!
//! ```no_run
//! use editmgt::{EditRequest, Editor, HoldPolicy, Photo};
//!
//! # fn main() -> Result<(), editmgt::EditError> {
//! let editor = Editor::open("models/editmgt")?;
//! let photo = Photo::open("cat.jpg")?;
//! editor.edit(&photo, "make the cat black")?.image.save("black-cat.png")?;
//!
//! let request = EditRequest::new("make the cat white").hold(HoldPolicy::Auto).seed(7);
//! let result = editor.edit(&photo, request)?;
//! println!("{:.0}% of the tokens were held", 100.0 * result.report.tokens_held);
//! # Ok(())
//! # }
//! ```
//!
//! [`Editor`] is the whole pipeline. [`Editor::generate`] makes images from text,
//! [`Editor::inpaint`] and [`Editor::outpaint`] generate a part of a photo or margins around it,
//! [`Editor::image_to_image`] an image that keeps something of a photo. [`Editor::edit_with`]
//! reports progress, shows previews and can be stopped; [`Editor::edit_batch`] edits several photos
//! in shared forward passes; [`Editor::open_photo`] edits one photo several times without encoding
//! it again, and continues edits that were stopped; [`batch`] edits the jobs of a file.
//! [`EditLoop`] is the sampling loop, to be advanced by hand.
//!
//! Every stage is a trait of [`editmgt_core`], re-exported here, and [`EditorBuilder`] takes your
//! own codec, text encoder, transformer, consolidator, hold policy, scheduler or noise;
//! [`Editor::from_parts`] needs no folder, and [`Editor::with_loras`] swaps adapters. The crate
//! `editmgt-diagnostics` checks any of them against golden folders.
//!
//! # Features
#![doc = document_features::document_features!()]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

pub mod batch;
mod builder;
mod custom;
mod editor;
mod error;
mod generate;
mod image_to_image;
pub mod lora;
mod model;
mod open;
pub mod photo;
mod record;
mod report;
mod request;
mod run;

/// The tensor library, in the version that the traits speak.
pub use burn;
/// Where to compute, burn's own: what [`open_device`] gives.
pub use burn::tensor::Device;
pub use editmgt_backends::{
    Backend, Compute, DeviceError, DeviceInfo, DeviceState, Dtype, DtypePolicy,
    open as open_device, open_default as open_default_device,
};
pub use editmgt_checkpoint::WeightBits;
pub use editmgt_core::{
    ActiveRows, AttentionConsolidator, AttentionMaps, AttentionRequest, CacheDtype, CellScores,
    ChaChaNoise, CodecSpec, EditEvent, EditObserver, Error, Flow, GridSize, HoldMask, HoldRequest,
    ItemRows, KeyMap, LoopProgress, MapCombine, MgtTransformer, MicroConditions, NoiseRequest,
    NoiseSource, Previews, ReferenceInput, RegionHold, Schedule, ScheduleRequest, ScoreMap,
    ScoreStats, Silent, Stage, StepCache, StepInput, StepNoise, StepOutput, StepPlan, StepResult,
    StepState, StepWork, TextConditioning, TextEncoder, TextRows, TextSpec, Tiling, TokenDraw,
    TokenGrid, TransformerSpec, Truncation, UnmaskScheduler, UserMask, VqCodec, config,
};
/// The devices that this build can compute on.
pub mod devices {
    pub use editmgt_backends::{available as list, available_on as list_of};
}
pub use builder::EditorBuilder;
/// Published models: their downloads and the cache that they are in.
#[cfg(feature = "hub")]
#[cfg_attr(docsrs, doc(cfg(feature = "hub")))]
pub use editmgt_hub as hub;
/// Models whose products have operands of a given precision.
pub use editmgt_kernels::{Operands, WithOperands};
/// The stages between logits and tokens.
pub use editmgt_sampler as sampler;
pub use editmgt_sampler::{EditLoop, Localisation, LoopInput, LoopStages, LoopStep};
pub use editor::{EditResult, Editor};
pub use error::{EditError, ModelError, StoppedEdit};
pub use generate::{
    GenerateRecord, GenerateReport, GenerateResult, GeneratedImage, OnImage, Record,
};
/// The image library, in the version that [`Photo`] speaks.
pub use image;
pub use image_to_image::{ImageToImageReport, ImageToImageResult};
pub use lora::LoraUse;
pub use model::identity::{checkpoint_identity, identity, variant_identity};
pub use model::{
    InferencePrecision, LoadOptions, LoadedText, Model, ModelFolder, ModelKind, ModelQuantization,
    ModelSource, QuantizablePart, QuantizeRequest, WrittenPart, load_component, quantize_model,
    read_config,
};
pub use open::OpenPhoto;
pub use photo::{
    Blend, Mask, MaskReading, Photo, PhotoError, PhotoLimits, PhotoNote, PixelSize, Resize,
    ResizePlan, SaveOptions, check_writable, preview_photo,
};
pub use record::EditRecord;
pub use report::{EditReport, ScoreReport, StepsReport, TextLeftOut};
pub use request::{
    CompositePolicy, CustomHold, EditDefaults, EditRequest, EditSettings, GenerateDefaults,
    GenerateRequest, GenerateSettings, HoldPolicy, Holding, Job, KeywordPolicy, MapFilter,
    OptionInfo, Task, content_words, default_blocks,
};
