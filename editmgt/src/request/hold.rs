use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use editmgt_core::{Error, RegionHold};
use editmgt_sampler::{
    HoldAny, HoldAuto, HoldBudget, HoldMargin, HoldOff, HoldThreshold, HoldUserMask,
};
use serde::{Deserialize, Serialize};

use crate::error::EditError;

/// Which tokens keep the photo's own.
///
/// In JSON `"off"`, `"auto"`, `"mask"`, `{"threshold": 0.3}`, `{"budget": 0.2}` and
/// `{"mask_and": "auto"}`; as words `off`, `auto`, `mask`, `0.3`, `budget:0.2` and `mask+auto`
/// ([`FromStr`] and [`Display`](fmt::Display), what the command line reads).
///
/// A user's mask is always obeyed: with a mask, `Off` acts as [`Mask`](Self::Mask) and a policy
/// that reads scores as [`MaskAnd`](Self::MaskAnd) of it.
///
/// ```
/// use editmgt::HoldPolicy;
///
/// assert_eq!("mask+budget:0.2".parse::<HoldPolicy>()?.to_string(), "mask+budget:0.2");
/// let json = serde_json::to_string(&HoldPolicy::Threshold(0.3)).unwrap();
/// assert_eq!(json, r#"{"threshold":0.3}"#);
/// # Ok::<(), editmgt::EditError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HoldPolicy {
    /// Nothing is held: the official default.
    #[default]
    Off,
    /// Tokens that score below λ, 0 to 1: the official `local_guidance`. Background and style
    /// edits are held back by it, too.
    Threshold(f32),
    /// A threshold from the score map's own histogram, nothing where that gives no clear answer:
    /// see [`HoldAuto`].
    Auto,
    /// What the user's mask leaves black; needs a mask.
    Mask,
    /// What the user's mask leaves black, and what another policy holds; needs a mask.
    MaskAnd(Box<HoldPolicy>),
    /// All but the best-scoring share, 0 to 1, of the picture: at most that may change. See
    /// [`HoldBudget`].
    Budget(f32),
    /// A policy of your own: see [`custom`](Self::custom). JSON has only its name: what is read
    /// back [lacks the hold](Self::lacks_custom_hold), and can be edited with after the program has
    /// set it again, in the request or with [`EditorBuilder::hold`](crate::EditorBuilder::hold).
    #[serde(with = "custom_hold")]
    Custom(CustomHold),
}

/// A [`RegionHold`] of your own in a [`HoldPolicy`]; none in a policy that was read from JSON. Two
/// are equal when they share it.
#[derive(Clone)]
pub struct CustomHold(Option<Arc<dyn RegionHold>>);

mod custom_hold {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::CustomHold;

    pub(super) fn serialize<S: Serializer>(
        _: &CustomHold,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<CustomHold, D::Error> {
        <()>::deserialize(deserializer).map(|()| CustomHold(None))
    }
}

impl PartialEq for CustomHold {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        }
    }
}

impl fmt::Debug for CustomHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomHold")
    }
}

impl HoldPolicy {
    const WORDS: &str = "off, auto, mask, a number from 0 to 1, budget:SHARE or mask+POLICY";

    pub(crate) const CUSTOM_EXPECTED: &str =
        "the custom hold itself, set with HoldPolicy::custom or EditorBuilder::hold";
    pub(crate) const CUSTOM_GOT: &str = "its record, from which it cannot be rebuilt";

    /// A policy of your own, for one request;
    /// [`EditorBuilder::hold`](crate::EditorBuilder::hold) sets one for all requests.
    pub fn custom(hold: impl RegionHold + 'static) -> Self {
        Self::Custom(CustomHold(Some(Arc::new(hold))))
    }

    /// Whether it reads scores, so that attention must be captured.
    pub fn needs_scores(&self) -> bool {
        match self {
            Self::Off | Self::Mask => false,
            Self::Threshold(threshold) => *threshold > 0.0,
            Self::Auto | Self::Budget(_) => true,
            Self::MaskAnd(policy) => policy.needs_scores(),
            Self::Custom(custom) => custom.0.as_ref().is_some_and(|hold| hold.needs_scores()),
        }
    }

    /// Whether it is, or has in it, a policy of the program's own.
    pub(crate) fn is_custom(&self) -> bool {
        match self {
            Self::Custom(_) => true,
            Self::MaskAnd(policy) => policy.is_custom(),
            _ => false,
        }
    }

    /// Whether it is, or has in it, a custom policy that was read from JSON, from which the hold
    /// itself can't be rebuilt.
    pub fn lacks_custom_hold(&self) -> bool {
        match self {
            Self::Custom(custom) => custom.0.is_none(),
            Self::MaskAnd(policy) => policy.lacks_custom_hold(),
            _ => false,
        }
    }

    /// Whether a user's mask is required.
    pub fn needs_mask(&self) -> bool {
        matches!(self, Self::Mask | Self::MaskAnd(_))
    }

    /// The policy that is in force together with a user's mask.
    pub fn with_mask(self) -> Self {
        match self {
            Self::Off | Self::Mask => Self::Mask,
            Self::MaskAnd(policy) => policy.with_mask(),
            policy => Self::MaskAnd(Box::new(policy)),
        }
    }

    /// The stage that carries it out. What a threshold, set or found, lets change is widened by
    /// `margin` tokens; a budget and a mask mean what they say.
    ///
    /// # Errors
    /// [`Error::Value`] for a number outside 0..=1, or a [custom policy without its
    /// hold](Self::lacks_custom_hold).
    pub fn stage(&self, margin: usize) -> Result<Box<dyn RegionHold>, Error> {
        let widened = |policy: Box<dyn RegionHold>| Box::new(HoldMargin::new(policy, margin));
        Ok(match self {
            Self::Off => Box::new(HoldOff),
            Self::Threshold(threshold) => widened(Box::new(HoldThreshold::new(*threshold)?)),
            Self::Auto => widened(Box::new(HoldAuto)),
            Self::Mask => Box::new(HoldUserMask),
            Self::MaskAnd(policy) => {
                Box::new(HoldAny::new(vec![policy.stage(margin)?, Box::new(HoldUserMask)]))
            }
            Self::Budget(share) => Box::new(HoldBudget::new(*share)?),
            Self::Custom(CustomHold(Some(hold))) => Box::new(Arc::clone(hold)),
            Self::Custom(CustomHold(None)) => {
                return Err(Error::value("hold", Self::CUSTOM_EXPECTED, Self::CUSTOM_GOT));
            }
        })
    }

    /// The number in it that is outside 0..=1, if any.
    pub(super) fn out_of_range(&self) -> Option<f32> {
        match self {
            Self::Threshold(value) | Self::Budget(value) => {
                (!(0.0..=1.0).contains(value)).then_some(*value)
            }
            Self::MaskAnd(policy) => policy.out_of_range(),
            _ => None,
        }
    }
}

impl fmt::Display for HoldPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Threshold(threshold) => write!(f, "{threshold}"),
            Self::Auto => f.write_str("auto"),
            Self::Mask => f.write_str("mask"),
            Self::MaskAnd(policy) => write!(f, "mask+{policy}"),
            Self::Budget(share) => write!(f, "budget:{share}"),
            Self::Custom(_) => f.write_str("custom"),
        }
    }
}

impl FromStr for HoldPolicy {
    type Err = EditError;

    /// Reads the words; whether a number is in range is not looked at.
    fn from_str(text: &str) -> Result<Self, EditError> {
        let error = || EditError::option("hold", Self::WORDS, format!("{text:?}"));
        Ok(match text {
            "off" => Self::Off,
            "auto" => Self::Auto,
            "mask" => Self::Mask,
            _ => match (text.strip_prefix("mask+"), text.strip_prefix("budget:")) {
                // One level only, so that no length of text makes a deep recursion.
                (Some(policy), _) if policy.starts_with("mask+") => return Err(error()),
                (Some(policy), _) => Self::MaskAnd(Box::new(policy.parse().map_err(|_| error())?)),
                (_, Some(share)) => Self::Budget(share.parse().map_err(|_| error())?),
                _ => Self::Threshold(text.parse().map_err(|_| error())?),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn and(policy: HoldPolicy) -> HoldPolicy {
        HoldPolicy::MaskAnd(Box::new(policy))
    }

    #[test]
    fn words_and_json() {
        use HoldPolicy::{Auto, Budget, Mask, Off, Threshold};
        for (words, json, policy) in [
            ("off", r#""off""#, Off),
            ("auto", r#""auto""#, Auto),
            ("mask", r#""mask""#, Mask),
            ("0.3", r#"{"threshold":0.3}"#, Threshold(0.3)),
            ("budget:0.25", r#"{"budget":0.25}"#, Budget(0.25)),
            ("mask+auto", r#"{"mask_and":"auto"}"#, and(Auto)),
            ("mask+0.5", r#"{"mask_and":{"threshold":0.5}}"#, and(Threshold(0.5))),
        ] {
            assert_eq!(words.parse::<HoldPolicy>().unwrap(), policy);
            assert_eq!(policy.to_string(), words);
            assert_eq!(serde_json::to_string(&policy).unwrap(), json);
            assert_eq!(serde_json::from_str::<HoldPolicy>(json).unwrap(), policy);
        }
        for bad in ["", "Auto", "budget", "budget:", "budget:x", "mask+", "mask+mask+auto", "30%"] {
            let message = bad.parse::<HoldPolicy>().unwrap_err().to_string();
            assert!(message.starts_with("hold: expected off, auto"), "{bad}: {message}");
        }
        let deep = "mask+".repeat(100_000) + "mask";
        assert!(matches!(deep.parse::<HoldPolicy>(), Err(EditError::Option { .. })));
        for bad in [r#""on""#, "0.3", "null", r#"{"threshold":0.3,"budget":1}"#, r#"{"auto":1}"#] {
            assert!(serde_json::from_str::<HoldPolicy>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_policy_of_your_own_is_named_and_joins_a_mask() {
        let policy = HoldPolicy::custom(HoldBudget::new(0.5).unwrap());
        assert!(policy.needs_scores() && policy.stage(3).unwrap().needs_scores());
        assert_eq!(policy.to_string(), "custom");
        assert_eq!(serde_json::to_string(&policy).unwrap(), r#"{"custom":null}"#);
        assert!(!policy.lacks_custom_hold());
        assert!("custom".parse::<HoldPolicy>().is_err());
        assert_eq!(policy, policy.clone());
        assert_ne!(policy, HoldPolicy::custom(HoldBudget::new(0.5).unwrap()));
        assert_eq!(policy.clone().with_mask(), and(policy));
    }

    #[test]
    fn a_recorded_custom_policy_is_read_without_its_hold() {
        let custom = HoldPolicy::custom(HoldBudget::new(0.5).unwrap());
        for policy in [custom.clone(), and(custom.clone())] {
            let json = serde_json::to_string(&policy).unwrap();
            let read: HoldPolicy = serde_json::from_str(&json).unwrap();
            assert!(read.lacks_custom_hold() && read.is_custom() && !policy.lacks_custom_hold());
            assert_ne!(read, policy);
            assert_eq!(read, serde_json::from_str(&json).unwrap());
            assert_eq!(serde_json::to_string(&read).unwrap(), json);
            let error = read.stage(0).err().expect("no hold").to_string();
            assert!(error.contains("HoldPolicy::custom"), "{error}");
        }
        for bad in [r#"{"custom":1}"#, r#"{"custom":{}}"#] {
            assert!(serde_json::from_str::<HoldPolicy>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mask_is_always_obeyed() {
        use HoldPolicy::{Auto, Budget, Mask, Off, Threshold};
        for (policy, with_mask) in [
            (Off, Mask),
            (Mask, Mask),
            (Auto, and(Auto)),
            (Threshold(0.2), and(Threshold(0.2))),
            (Budget(0.2), and(Budget(0.2))),
            (and(Auto), and(Auto)),
            (and(Off), Mask),
            (and(and(Mask)), Mask),
        ] {
            let stage = policy.stage(1).unwrap();
            assert_eq!(stage.needs_scores(), policy.needs_scores(), "{policy}");
            assert_eq!(policy.clone().with_mask(), with_mask, "{policy}");
        }
    }

    #[test]
    fn numbers_are_found_wherever_they_stand() {
        for policy in ["1.5", "budget:-1", "mask+NaN", "mask+budget:2"] {
            let policy: HoldPolicy = policy.parse().unwrap();
            assert!(policy.out_of_range().is_some(), "{policy}");
            assert!(policy.stage(0).is_err(), "{policy}");
        }
        assert_eq!(and(HoldPolicy::Threshold(1.0)).out_of_range(), None);
    }
}
