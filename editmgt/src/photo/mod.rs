//! Image files, geometry and compositing: everything between files and tensors.
//!
//! ```text
//! file ─► Photo (upright RGB, alpha, metadata) ─► ResizePlan::apply ─► [1, 3, H, W] ─► codec
//!           │                                                                            │
//!           │    Mask ─► UserMask on the token grid                                      ▼
//!           ▼                                                                      edited tensor
//! file ◄─ Photo::save ◄─ Photo::edited ◄─ Composite (ChangeMask) ◄─ ResizePlan::invert
//! ```
//!
//! A photo keeps its size, orientation, transparency, colour profile and camera data, and its exact
//! pixel values outside the edit.
//!
//! ```no_run
//! use editmgt::photo::{Photo, ResizePlan, SaveOptions, check_writable};
//! # fn edit(x: burn::tensor::Tensor<4>) -> burn::tensor::Tensor<4> { x }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let photo = Photo::open("photo.jpg")?;
//! check_writable("edited.jpg", photo.size(), &SaveOptions::default())?;
//! let plan = ResizePlan::fit(photo.size(), 1024, 32)?;
//! let edited = edit(plan.apply(&photo, &Default::default())?);
//! photo.edited(plan.invert(edited, &photo)?)?.save("edited.jpg")?;
//! # Ok(())
//! # }
//! ```

mod change;
mod composite;
mod error;
mod extend;
mod geometry;
mod jpeg;
mod load;
mod mask;
mod mask_reading;
mod metadata;
mod note;
mod opacity;
mod overlay;
mod png_text;
mod preview;
mod resize;
mod save;
mod size;
mod visible;

pub use change::ChangeMask;
pub(crate) use change::MAX_FEATHER;
pub use composite::{Blend, Composite};
pub use error::{Origin, PhotoError};
pub use extend::Margins;
pub(crate) use geometry::{MAX_SIDE, to_rgb};
pub use geometry::{Resize, ResizePlan};
pub use image::{GrayImage, RgbImage};
pub use load::{MIN_SIDE, Photo, PhotoLimits};
pub use mask::Mask;
pub use mask_reading::MaskReading;
pub use metadata::{Colours, Metadata, Resolution, ResolutionUnit};
pub use note::{MetadataKind, PhotoNote};
pub(crate) use opacity::keep_hidden;
pub use overlay::Overlay;
pub(crate) use png_text::read_text;
pub use preview::preview_photo;
pub use resize::{ResizeFilter, resize_rgb};
pub use save::{SaveOptions, check_writable};
pub use size::{PixelArea, PixelSize};
pub use visible::{ChangeThresholds, VisibleChange, codec_noise};
