use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::TrainingPlan;
use crate::run::{Precision, Products, TrainError};

/// How a run uses its devices. Affects results only by rounding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ComputeOptions {
    /// The precision of losses and gradients.
    pub precision: Precision,
    /// Operands of matrix products on the CPU.
    #[serde(skip_serializing_if = "Products::is_default")]
    pub products: Products,
    /// Batches of a step that are computed at the same time on the CPU, each with its share of the
    /// threads; `learner.accumulate` must be a multiple. Faster for a small model, whose operations
    /// are too short to be shared by threads.
    #[serde(skip_serializing_if = "is_one")]
    pub workers: usize,
    /// Gradient checkpointing: recomputes cheap activations in the backward pass; less memory, more
    /// time.
    pub gradient_checkpointing: bool,
    /// Additional devices by name (`cuda:1`): each computes its share of a step's batches, whose
    /// number must be a multiple of the device count.
    pub devices: Vec<String>,
}

fn is_one(workers: &usize) -> bool {
    *workers == 1
}

impl Default for ComputeOptions {
    fn default() -> Self {
        Self {
            precision: Precision::default(),
            products: Products::default(),
            workers: 1,
            gradient_checkpointing: false,
            devices: Vec::new(),
        }
    }
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

    /// Adds these options to the plan.
    ///
    /// # Errors
    /// [`TrainError::Option`] for an unavailable device.
    pub(super) fn plan(&self, plan: TrainingPlan) -> Result<TrainingPlan, TrainError> {
        let open = |name: &String| {
            editmgt::open_device(name)
                .map_err(|error| TrainError::option("devices", "names of devices", error))
        };
        let other_devices = self.devices.iter().map(open).collect::<Result<_, _>>()?;
        let Self { precision, products, workers, .. } = *self;
        Ok(TrainingPlan { precision, products, workers, other_devices, ..plan })
    }
}
