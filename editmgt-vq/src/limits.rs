use std::ops::RangeInclusive;

use editmgt_core::config::ConfigError;

/// No width or codebook may be larger: far above any real model, and small enough that no product
/// of two overflows.
pub(crate) const MAX_EXTENT: usize = 1 << 24;

/// No more levels or residual blocks a level: a module is built for each, lazy parameters or not.
pub(crate) const MAX_LEVELS: usize = 16;
pub(crate) const MAX_LAYERS: usize = 64;

/// Checks that a size of a config is in its range.
pub(crate) fn within(
    component: &'static str,
    key: &'static str,
    got: usize,
    range: RangeInclusive<usize>,
) -> Result<(), ConfigError> {
    if range.contains(&got) {
        return Ok(());
    }
    let expected = format!("{} to {}", range.start(), range.end());
    Err(ConfigError::unsupported(component, key, expected, got))
}
