use editmgt_sampler::{Consolidator, Filter, Smoothing};
use serde::{Deserialize, Serialize};

/// How the score map is smoothed before anything is held by it: the filters of the official
/// `local_guidance` at strength 1, peaks preserved, or none.
///
/// In JSON, and on the command line, `off`, `adaptive`, `gaussian`, `bilateral`, `morphology`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MapFilter {
    /// The attention as it is, rescaled to 0..1.
    Off,
    /// See [`Filter::Adaptive`]: the official default.
    #[default]
    Adaptive,
    /// See [`Filter::Gaussian`].
    Gaussian,
    /// See [`Filter::Bilateral`].
    Bilateral,
    /// See [`Filter::Morphology`].
    Morphology,
}

impl MapFilter {
    /// Every one, none first.
    pub const ALL: [Self; 5] =
        [Self::Off, Self::Adaptive, Self::Gaussian, Self::Bilateral, Self::Morphology];

    /// What it is called in JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Adaptive => "adaptive",
            Self::Gaussian => "gaussian",
            Self::Bilateral => "bilateral",
            Self::Morphology => "morphology",
        }
    }

    /// The stage that makes score maps with it.
    pub fn stage(self) -> Consolidator {
        let filter = match self {
            Self::Off => None,
            Self::Adaptive => Some(Filter::Adaptive),
            Self::Gaussian => Some(Filter::Gaussian),
            Self::Bilateral => Some(Filter::Bilateral),
            Self::Morphology => Some(Filter::Morphology),
        };
        Consolidator::default().with_smoothing(filter.map(Smoothing::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_json_and_the_default_is_the_consolidators() {
        for filter in MapFilter::ALL {
            let json = serde_json::to_string(&filter).unwrap();
            assert_eq!(json, format!("\"{}\"", filter.name()));
            assert_eq!(serde_json::from_str::<MapFilter>(&json).unwrap(), filter);
            let same = filter.stage() == Consolidator::default();
            assert_eq!(same, filter == MapFilter::default(), "{filter:?}");
        }
        assert!(serde_json::from_str::<MapFilter>("\"median\"").is_err());
    }
}
