//! The CLIP text tower with its projection (`CLIPTextModelWithProjection`).

mod config;
mod layer;
mod model;

pub use config::ClipTextConfig;
pub use model::{ClipOutput, ClipText};
