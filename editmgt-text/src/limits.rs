use editmgt_core::config::ConfigError;

/// Far above any model of this family, and low enough that no product of two overflows.
const LARGEST_SIZE: usize = 1 << 24;
/// Each layer costs a few kilobytes before any weight is read.
const MOST_LAYERS: usize = 1 << 10;

/// Checks the numbers of one component's config.
pub(crate) struct Limits(pub(crate) &'static str);

impl Limits {
    /// Sizes that must be at least 1.
    pub(crate) fn sizes(&self, sizes: &[(&'static str, usize)]) -> Result<(), ConfigError> {
        sizes.iter().try_for_each(|&(key, size)| self.range(key, size, LARGEST_SIZE))
    }

    /// A number of layers.
    pub(crate) fn layers(&self, key: &'static str, layers: usize) -> Result<(), ConfigError> {
        self.range(key, layers, MOST_LAYERS)
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

    fn range(&self, key: &'static str, got: usize, most: usize) -> Result<(), ConfigError> {
        if (1..=most).contains(&got) {
            return Ok(());
        }
        Err(ConfigError::unsupported(self.0, key, format!("1 to {most}"), got))
    }
}
