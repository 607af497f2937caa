//! Edit images by instruction with a masked generative transformer (EditMGT): a VQ codec turns
//! the photo into tokens, a transformer fills a masked canvas in a few parallel steps while the
//! photo's own tokens ride along, its attention says where the edit is, and tokens outside stay
//! the photo's.
//!
//! ```no_run
//! use editmgt::{EditRequest, Editor, HoldPolicy, Photo, SaveOptions, Silent, check_writable};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let editor = Editor::builder("models/editmgt").build()?;
//! let photo = Photo::open("cat.jpg")?;
//! check_writable("black-cat.png", photo.size(), &SaveOptions::default())?;
//! let request = EditRequest {
//!     hold: Some(HoldPolicy::Auto),
//!     seed: 7,
//!     ..EditRequest::new("make the cat black")
//! };
//! let result = editor.edit(&photo, None, &request, &mut Silent)?;
//! result.image.save("black-cat.png", &SaveOptions::default())?;
//! println!("{:.0}% of the tokens were held", 100.0 * result.report.tokens_held);
//! # Ok(())
//! # }
//! ```
//!
//! [`Editor`] is the whole pipeline; [`OpenPhoto`] edits one photo several times without encoding
//! it again, and goes on with edits that were stopped; [`batch`] edits many. [`EditLoop`] is the
//! loop of an edit, to be advanced by hand. Every stage
//! is a trait of [`editmgt_core`], re-exported here: replace the codec, the text encoder, the
//! transformer, the consolidator, the hold policy, the scheduler or the noise by your own.
//! [`verify`] checks any of them against golden folders.
//!
//! # Features
#![doc = document_features::document_features!()]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

pub mod batch;
pub mod bench;
pub mod conformance;
mod custom;
mod edit_loop;
mod editor;
#[cfg(feature = "embedded")]
mod embedded;
mod error;
mod folder;
mod identity;
pub mod init;
pub mod inspect;
pub mod lora;
mod model;
mod on_demand;
mod open;
pub mod photo;
mod preview;
mod record;
mod report;
mod request;
mod run;
mod stored;
pub mod verify;

/// Where to compute, burn's own: what [`open_device`] gives.
pub use burn::tensor::Device;
pub use edit_loop::{EditLoop, Localisation, LoopInput, LoopStages, LoopStep};
pub use editmgt_backends::{
    Backend, DeviceError, DeviceInfo, DeviceState, Dtype, DtypePolicy, available as devices,
    available_on as devices_of, open as open_device, open_default as open_default_device,
};
pub use editmgt_core::*;
/// The stages between logits and tokens.
pub use editmgt_sampler as sampler;
pub use editor::{EditResult, Editor, EditorBuilder};
pub use error::{EditError, ModelError};
pub use folder::ModelFolder;
pub use identity::{checkpoint_identity, identity};
pub use lora::LoraUse;
pub use model::{LoadOptions, Model, ModelSource};
pub use open::OpenPhoto;
pub use photo::{
    Blend, Mask, MaskReading, Photo, PhotoError, PhotoLimits, PhotoNote, PixelSize, Resize,
    ResizePlan, SaveOptions, check_writable,
};
pub use preview::preview_photo;
pub use record::EditRecord;
pub use report::{EditReport, ScoreReport, TextLeftOut};
pub use request::{
    CompositePolicy, EditDefaults, EditRequest, EditSettings, HoldPolicy, Holding, KeywordPolicy,
    MapFilter, content_words,
};
pub use stored::read_config;
