use editmgt_core::config::{ConfigError, MAX_EXTENT, check_range};

/// Each layer costs a few kilobytes before any weight is read.
const MOST_LAYERS: usize = 1 << 10;

/// Checks the numbers of one component's config.
pub(crate) struct Limits(pub(crate) &'static str);

impl Limits {
    /// Sizes that must be at least 1.
    pub(crate) fn sizes(&self, sizes: &[(&'static str, usize)]) -> Result<(), ConfigError> {
        sizes.iter().try_for_each(|&(key, size)| check_range(self.0, key, size, 1..=MAX_EXTENT))
    }

    /// A number of layers.
    pub(crate) fn layers(&self, key: &'static str, layers: usize) -> Result<(), ConfigError> {
        check_range(self.0, key, layers, 1..=MOST_LAYERS)
    }

    /// `whole` must be a multiple of `part`.
    pub(crate) fn divides(
        &self,
        (key, whole): (&'static str, usize),
        (name, part): (&'static str, usize),
    ) -> Result<(), ConfigError> {
        if whole.is_multiple_of(part) {
            return Ok(());
        }
        let expected = format!("a multiple of {name} ({part})");
        Err(ConfigError::unsupported(self.0, key, expected, whole))
    }

    /// Numbers above 0 that are neither infinite nor NaN.
    pub(crate) fn positive(&self, numbers: &[(&'static str, f64)]) -> Result<(), ConfigError> {
        match numbers.iter().find(|(_, number)| !(*number > 0.0 && number.is_finite())) {
            None => Ok(()),
            Some((key, number)) => {
                Err(ConfigError::unsupported(self.0, key, "a finite number above 0", number))
            }
        }
    }
}
