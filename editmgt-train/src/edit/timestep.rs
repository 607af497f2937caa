use serde::{Deserialize, Serialize};

/// What the model is told about how far the canvas is.
///
/// The model embeds 1000 times this number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepConvention {
    /// The official training: 1000 times the mask ratio, so 0 to 1000. The official inference
    /// counts its steps down instead (`n-1 … 0`), numbers that training hardly ever saw.
    #[default]
    Official,
    /// The mask ratio itself, 0 to 1. Inference passes the share of the canvas that is masked
    /// when a step begins: a scheduler whose config says `"timesteps": "mask_ratio"`.
    MaskRatio,
}

impl TimestepConvention {
    /// The timestep of a canvas of which this share is masked.
    pub fn of(self, ratio: f32) -> f32 {
        match self {
            Self::Official => ratio * 1000.0,
            Self::MaskRatio => ratio,
        }
    }
}
