/// How a module's parameter paths differ from the keys of its official checkpoint.
///
/// Struct fields mirror checkpoint keys, so most models need no rename at all. The loader already
/// knows burn's own differences: `Linear` weights are stored transposed, and the `gamma` and
/// `beta` of burn's norms are `weight` and `bias` in a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyMap {
    /// `(pattern, replacement)`: regular expressions tried on the module's dotted path, in
    /// order, each replacing every match; `$1` names a group. The result is the checkpoint's key.
    pub renames: Vec<(String, String)>,
    /// Regular expressions for checkpoint keys that may be there and are not needed (they must
    /// match the whole key). Any other key that no parameter takes is an error.
    pub unused: Vec<String>,
}

impl KeyMap {
    /// A map with these renames and nothing unused.
    pub fn renames<const N: usize>(renames: [(&str, &str); N]) -> Self {
        let own = |(from, to): (&str, &str)| (from.to_owned(), to.to_owned());
        Self { renames: renames.map(own).into(), unused: Vec::new() }
    }

    /// The same map, allowing these keys to be left over.
    pub fn allow_unused(mut self, patterns: impl IntoIterator<Item = String>) -> Self {
        self.unused.extend(patterns);
        self
    }
}
