/// How a module's parameter paths differ from the keys of its official checkpoint.
///
/// Struct fields mirror checkpoint keys, so most models need no rename. The loader handles burn's
/// differences from PyTorch: `Linear` weights are stored transposed, and the `gamma` and `beta` of
/// burn's norms are `weight` and `bias` in a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyMap {
    /// `(pattern, replacement)`: regular expressions applied in order to the module's dotted path,
    /// each replacing every match; `$1` refers to a group. The result is the checkpoint's key.
    pub renames: Vec<(String, String)>,
    /// Regular expressions for checkpoint keys that may be present without a parameter (they must
    /// match the whole key). Any other key without a parameter is an error.
    pub unused: Vec<String>,
}

impl KeyMap {
    /// A map with these renames and no unused keys.
    pub fn renames<const N: usize>(renames: [(&str, &str); N]) -> Self {
        let owned = |(from, to): (&str, &str)| (from.to_owned(), to.to_owned());
        Self { renames: renames.map(owned).into(), unused: Vec::new() }
    }

    /// Allows keys that match these patterns to have no parameter.
    pub fn allow_unused(mut self, patterns: impl IntoIterator<Item = String>) -> Self {
        self.unused.extend(patterns);
        self
    }
}
