//! Limits of codec configs: a module is built for each level and block, lazy parameters or not.

/// Resolutions of a codec, at most.
pub(crate) const MAX_LEVELS: usize = 16;
/// Layers or residual blocks of a level, at most.
pub(crate) const MAX_LAYERS: usize = 64;
