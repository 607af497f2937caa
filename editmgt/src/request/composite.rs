use serde::{Deserialize, Deserializer, Serialize};

/// Which pixels of the result are the photo's own bytes instead of the codec's.
///
/// In JSON `"visible"`, `"held"` and `"all"`. Records of before there were three have `true`, which
/// is read as `held`, or `false`, which is read as `all`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CompositePolicy {
    /// Those of held tokens, and those that the edit does not visibly change: see
    /// [`VisibleChange`](crate::photo::VisibleChange). Costs one more decode per photo.
    #[default]
    Visible,
    /// Those of held tokens only.
    Held,
    /// None: the decoded edit as it is.
    All,
}

impl CompositePolicy {
    /// All policies, the default first.
    pub const ALL: [Self; 3] = [Self::Visible, Self::Held, Self::All];

    /// Its name in JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Visible => "visible",
            Self::Held => "held",
            Self::All => "all",
        }
    }
}

impl<'de> Deserialize<'de> for CompositePolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Name {
            Visible,
            Held,
            All,
        }
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected \"visible\", \"held\" or \"all\"")]
        enum Form {
            Name(Name),
            Before(bool),
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Name(Name::Visible) => Self::Visible,
            Form::Name(Name::Held) | Form::Before(true) => Self::Held,
            Form::Name(Name::All) | Form::Before(false) => Self::All,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_the_booleans_of_old_records() {
        for policy in CompositePolicy::ALL {
            let json = serde_json::to_string(&policy).unwrap();
            assert_eq!(json, format!("\"{}\"", policy.name()));
            assert_eq!(serde_json::from_str::<CompositePolicy>(&json).unwrap(), policy);
        }
        for (json, policy) in [("true", CompositePolicy::Held), ("false", CompositePolicy::All)] {
            assert_eq!(serde_json::from_str::<CompositePolicy>(json).unwrap(), policy);
        }
        for bad in ["\"off\"", "1", "null"] {
            let error = serde_json::from_str::<CompositePolicy>(bad).unwrap_err().to_string();
            assert!(error.contains("visible"), "{bad}: {error}");
        }
    }
}
