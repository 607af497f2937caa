use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::TrainingPlan;
use crate::run::{Precision, TrainError};

/// How a run uses its devices. None of it changes what is learned, but for rounding.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ComputeOptions {
    /// The precision of losses and gradients.
    pub precision: Precision,
    /// Computes cheap activations anew for the gradients instead of keeping them: less memory, more
    /// time.
    pub gradient_checkpointing: bool,
    /// Names of devices beside the run's own (`cuda:1`): each does its share of the batches of a
    /// step, of which there must be a multiple.
    pub devices: Vec<String>,
}

impl ComputeOptions {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The device to train on.
    pub(super) fn training(&self, device: &Device) -> Device {
        let device = device.clone().autodiff();
        if self.gradient_checkpointing { device.gradient_checkpointing() } else { device }
    }

    /// The plan with these options.
    ///
    /// # Errors
    /// [`TrainError::Option`] for a device that can't be had.
    pub(super) fn plan(&self, plan: TrainingPlan) -> Result<TrainingPlan, TrainError> {
        let open = |name: &String| {
            editmgt::open_device(name)
                .map_err(|error| TrainError::option("devices", "names of devices", error))
        };
        let other_devices = self.devices.iter().map(open).collect::<Result<_, _>>()?;
        Ok(TrainingPlan { precision: self.precision, other_devices, ..plan })
    }
}
