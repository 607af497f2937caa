use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams, ModuleOptimizer};
use burn::tensor::{DType, Tensor};
use editmgt_core::KeyMap;

use super::gradients::scalar;
use super::initial::with_path_ids;
use super::{Checkpoint, CheckpointWriter, Ema, LearnerOptions, TrainError, clip_by_norm};

/// What a step of a [`Learner`] was like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// Mean loss of the batches.
    pub loss: f32,
    /// Norm of the gradients before clipping.
    pub gradient_norm: f32,
    /// The learning rate.
    pub learning_rate: f64,
}

/// A model on an autodiff device, its optimizer, and the average of its weights.
pub struct Learner<M: Module> {
    model: M,
    optimizer: ModuleOptimizer,
    ema: Option<Ema<M>>,
    options: LearnerOptions,
}

const WEIGHTS: &str = "weights";
const EMA: &str = "ema";
const OPTIMIZER: &str = "optimizer.bpk";

impl<M: Module> Learner<M> {
    /// Starts with the weights of `model` (see [`initialise`](super::initialise) for weights that
    /// follow from a seed).
    ///
    /// # Errors
    /// [`TrainError::Option`] for an option out of range.
    pub fn new(model: M, options: LearnerOptions) -> Result<Self, TrainError> {
        options.validate()?;
        let model = with_path_ids(model);
        let ema = options.ema.map(|decay| Ema::new(&model, decay));
        Ok(Self { optimizer: options.adamw.build()?, model, ema, options })
    }

    /// The model as it is trained, with autodiff.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The model to use: the average where there is one, without autodiff.
    pub fn trained(&self) -> M {
        match &self.ema {
            Some(ema) => ema.module().clone(),
            None => self.model.valid(),
        }
    }

    /// Changes the model by other means than gradients.
    ///
    /// # Errors
    /// Those of `change`; the model is as before then.
    pub fn change(
        &mut self,
        change: impl FnOnce(M) -> Result<M, TrainError>,
    ) -> Result<(), TrainError> {
        self.model = change(self.model.clone())?;
        Ok(())
    }

    /// Step `step` of `total`: `loss` is asked for the loss of each batch that makes the step
    /// (its index is below [`LearnerOptions::accumulate`]), a tensor of one value.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] for a loss or gradient that is not a number, and the errors of
    /// `loss`. The model is as before then.
    pub fn update(
        &mut self,
        step: u64,
        total: u64,
        mut loss: impl FnMut(&M, usize) -> Result<Tensor<1>, TrainError>,
    ) -> Result<Update, TrainError> {
        let batches = self.options.accumulate;
        let mut accumulator = GradientsAccumulator::new();
        let mut sum = 0.0;
        for batch in 0..batches {
            let loss = loss(&self.model, batch)?;
            let value = scalar(loss.clone().cast(DType::F32), "reading the loss")?;
            if !value.is_finite() {
                return Err(TrainError::NotFinite { what: "loss", value });
            }
            sum += value;
            let gradients = (loss / batches as f64).backward();
            accumulator
                .accumulate(&self.model, GradientsParams::from_grads(gradients, &self.model));
        }
        let (gradients, gradient_norm) =
            clip_by_norm(&self.model, accumulator.grads(), self.options.clip_norm)?;
        let learning_rate = self.options.learning_rate.at(step, total);
        self.model = self.optimizer.step(learning_rate, self.model.clone(), gradients);
        if let Some(ema) = &mut self.ema {
            ema.update(&self.model);
        }
        Ok(Update { loss: sum / batches as f32, gradient_norm, learning_rate })
    }

    /// Adds weights, averages and the optimizer's state to a checkpoint.
    ///
    /// # Errors
    /// Whatever the system refuses.
    pub fn save(&self, to: &CheckpointWriter, keys: &KeyMap) -> Result<(), TrainError> {
        to.module(WEIGHTS, &self.model, keys)?;
        if let Some(ema) = &self.ema {
            to.module(EMA, ema.module(), keys)?;
        }
        let path = to.path(OPTIMIZER);
        let bytes = self.optimizer.into_bytes().map_err(|e| TrainError::malformed(&path, e))?;
        to.file(OPTIMIZER, &bytes)
    }

    /// Goes on from a checkpoint.
    ///
    /// # Errors
    /// A file that is missing or not of this model.
    pub fn load(&mut self, from: &Checkpoint, keys: &KeyMap) -> Result<(), TrainError> {
        self.model = from.module(WEIGHTS, self.model.clone(), keys)?;
        if let Some(decay) = self.options.ema {
            let average = from.module(EMA, self.model.valid(), keys)?;
            self.ema = Some(Ema::resume(average, decay));
        }
        let path = from.path(OPTIMIZER);
        let bytes = std::fs::read(&path).map_err(TrainError::io(&path))?;
        self.optimizer = (self.options.adamw.build()?)
            .from_bytes(burn::tensor::Bytes::from_bytes_vec(bytes))
            .map_err(|e| TrainError::malformed(&path, e))?;
        Ok(())
    }
}
