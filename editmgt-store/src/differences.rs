use std::collections::{BTreeMap, BTreeSet};

/// The dotted names of all keys in which two trees differ, including keys that one of them lacks.
///
/// `entries` returns the children of a node by name, or `None` for a leaf, so that it works for
/// JSON and TOML alike. Trees that differ at the root give one empty name.
///
/// ```
/// use serde_json::{Value, json};
///
/// let entries = |value: &'static Value| {
///     value.as_object().map(|map| map.iter().map(|(k, v)| (k.as_str(), v)).collect())
/// };
/// let (a, b) = (json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": 3, "c": 2}, "d": 4}));
/// let (a, b): (&'static Value, &'static Value) = (Box::leak(a.into()), Box::leak(b.into()));
/// assert_eq!(editmgt_store::differences(a, b, &entries), ["a.b", "d"]);
/// ```
pub fn differences<'a, T: PartialEq>(
    one: &'a T,
    other: &'a T,
    entries: &impl Fn(&'a T) -> Option<BTreeMap<&'a str, &'a T>>,
) -> Vec<String> {
    let mut keys = Vec::new();
    collect(one, other, "", entries, &mut keys);
    keys
}

fn collect<'a, T: PartialEq>(
    one: &'a T,
    other: &'a T,
    name: &str,
    entries: &impl Fn(&'a T) -> Option<BTreeMap<&'a str, &'a T>>,
    keys: &mut Vec<String>,
) {
    let (Some(ones), Some(others)) = (entries(one), entries(other)) else {
        if one != other {
            keys.push(name.to_owned());
        }
        return;
    };
    let names: BTreeSet<&str> = ones.keys().chain(others.keys()).copied().collect();
    for key in names {
        let name = if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
        match (ones.get(key), others.get(key)) {
            (Some(one), Some(other)) => collect(*one, *other, &name, entries, keys),
            _ => keys.push(name),
        }
    }
}
