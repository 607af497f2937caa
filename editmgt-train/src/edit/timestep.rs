use serde::{Deserialize, Serialize};

/// Timestep convention: how the progress of the canvas is encoded.
///
/// The model embeds 1000 times this number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepConvention {
    /// The official training: 1000 times the mask ratio, so 0 to 1000. The official inference
    /// counts its steps down instead (`n-1 … 0`), values that are rare in training.
    #[default]
    Official,
    /// The mask ratio itself, 0 to 1. Inference passes the mask ratio at the beginning of a step: a
    /// scheduler whose config has `"timesteps": "mask_ratio"`.
    MaskRatio,
}

impl TimestepConvention {
    /// The timestep of a canvas with this mask ratio.
    pub fn of(self, ratio: f32) -> f32 {
        match self {
            Self::Official => ratio * 1000.0,
            Self::MaskRatio => ratio,
        }
    }
}
