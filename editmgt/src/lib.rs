#![forbid(unsafe_code)]
//! Edit images by instruction with a masked generative transformer.
pub mod verify;
