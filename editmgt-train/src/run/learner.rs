use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams, ModuleOptimizer};
use burn::tensor::{DType, Device, Tensor};
use editmgt_core::KeyMap;
use editmgt_kernels::Recording;
use rayon::ThreadPool;

use super::gradients::{scalar, scaled};
use super::initial::with_path_ids;
use super::precision::{LossScale, rounded};
use super::{
    Checkpoint, CheckpointWriter, Ema, LearnerOptions, Precision, Products, TrainError,
    clip_by_norm,
};

/// Outcome of a step of a [`Learner`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// Mean loss of the batches.
    pub loss: f32,
    /// Gradient norm before clipping.
    pub gradient_norm: f32,
    /// The learning rate.
    pub learning_rate: f64,
    /// Whether the gradients overflowed in f16, so that the weights were not updated.
    pub skipped: bool,
}

/// A model on an autodiff device, its optimizer, and the average of its weights.
pub struct Learner<M: Module> {
    model: M,
    optimizer: ModuleOptimizer,
    ema: Option<Ema<M>>,
    options: LearnerOptions,
    precision: Precision,
    products: Products,
    /// Only in f16.
    loss_scale: Option<LossScale>,
    /// Devices beside the model's own.
    others: Vec<Device>,
    /// One for each batch that is computed at the same time on the CPU; none for one after the
    /// other.
    pools: Vec<ThreadPool>,
}

/// A copy of the model on one of the devices, and its gradients.
struct Worker<M: Module> {
    model: M,
    accumulator: GradientsAccumulator<M>,
}

impl<M: Module> Worker<M> {
    fn new(model: M) -> Self {
        Self { model, accumulator: GradientsAccumulator::new() }
    }

    /// Adds the gradients of a batch; its loss.
    fn add(
        &mut self,
        pass: Pass,
        batch: usize,
        loss: impl FnOnce(&M, usize) -> Result<Tensor<1>, TrainError>,
    ) -> Result<Tensor<1>, TrainError> {
        let rounded = rounded(self.model.clone(), pass.precision);
        let operands = pass.products.operands();
        let forward = || operands.install(|| loss(&rounded, batch));
        let loss = Recording::Kernels.install(forward)?.cast(DType::F32);
        let gradients = (loss.clone() * pass.share).backward();
        let gradients = GradientsParams::from_grads(gradients, &self.model);
        self.accumulator.accumulate(&self.model, gradients);
        Ok(loss.inner())
    }
}

/// How the passes of a step compute.
#[derive(Clone, Copy)]
struct Pass {
    precision: Precision,
    products: Products,
    /// Of a batch in the gradients of a step, times the scale of losses.
    share: f64,
}

const WEIGHTS: &str = "weights";
const EMA: &str = "ema";
const OPTIMIZER: &str = "optimizer.bpk";
const LOSS_SCALE: &str = "loss_scale.json";

impl<M: Module> Learner<M> {
    /// Starts with the weights of `model` (see [`initialise`](super::initialise) for weights
    /// derived from a seed).
    ///
    /// # Errors
    /// [`TrainError::Option`] for an option out of range.
    pub fn new(model: M, options: LearnerOptions) -> Result<Self, TrainError> {
        options.validate()?;
        let model = with_path_ids(model);
        let ema = options.ema.map(|decay| Ema::new(&model, decay));
        Ok(Self {
            optimizer: options.adamw.build()?,
            model,
            ema,
            options,
            precision: Precision::F32,
            products: Products::F32,
            loss_scale: None,
            others: Vec::new(),
            pools: Vec::new(),
        })
    }

    /// The model in training, with autodiff.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The trained model without autodiff: the average, if one is kept.
    pub fn trained(&self) -> M {
        match &self.ema {
            Some(ema) => ema.module().clone(),
            None => self.model.valid(),
        }
    }

    /// Changes the model other than by gradients.
    ///
    /// # Errors
    /// Those of `change`; the model is then unchanged.
    pub fn change(
        &mut self,
        change: impl FnOnce(M) -> Result<M, TrainError>,
    ) -> Result<(), TrainError> {
        self.model = change(self.model.clone())?;
        Ok(())
    }

    /// Sets the precision of losses and gradients.
    ///
    /// # Errors
    /// [`TrainError::Option`] when a device of the run does not support it.
    pub fn with_precision(mut self, precision: Precision) -> Result<Self, TrainError> {
        self.devices().iter().try_for_each(|device| precision.check(device))?;
        self.loss_scale = (precision == Precision::F16).then(LossScale::new);
        self.precision = precision;
        Ok(self)
    }

    /// Sets the operands of products. Call it after [`with_precision`](Self::with_precision) and
    /// [`with_devices`](Self::with_devices). A loss that computes in
    /// [`Operands`](editmgt_kernels::Operands) of its own isn't changed.
    ///
    /// # Errors
    /// [`TrainError::Option`] when a device of the run has no such products.
    pub fn with_products(mut self, products: Products) -> Result<Self, TrainError> {
        self.devices().iter().try_for_each(|device| products.check(device, self.precision))?;
        self.products = products;
        Ok(self)
    }

    /// Data parallelism: spreads the batches of a step over the model's own device and these.
    /// Copies of the model compute gradients, which are summed on the model's device, where the
    /// optimizer step is made. Nothing is read back before all devices have their work, so they run
    /// concurrently.
    ///
    /// # Errors
    /// [`TrainError::Option`] when the batches of a step are not a multiple of the devices, or a
    /// device does not support the precision.
    pub fn with_devices(mut self, others: Vec<Device>) -> Result<Self, TrainError> {
        let (count, batches) = (others.len() + 1, self.options.accumulate);
        if !batches.is_multiple_of(count) {
            let expected = format!("a multiple of the {count} devices");
            return Err(TrainError::option("accumulate", expected, batches));
        }
        others.iter().try_for_each(|device| self.precision.check(device))?;
        self.others = others;
        Ok(self)
    }

    /// Data parallelism on the CPU: [`update_at_once`](Self::update_at_once) computes this many
    /// batches of a step at the same time, each with its share of the threads. A small model's
    /// operations are too short to be shared by threads.
    ///
    /// # Errors
    /// [`TrainError::Option`] when there are other devices, or the batches of a step are not a
    /// multiple of `workers`, and when threads can't be started.
    pub fn with_workers(mut self, workers: usize) -> Result<Self, TrainError> {
        let batches = self.options.accumulate;
        if workers == 0 || !self.others.is_empty() && workers > 1 {
            return Err(TrainError::option("workers", "1, or more on a single device", workers));
        }
        if !batches.is_multiple_of(workers) {
            let expected = format!("a multiple of the {workers} workers");
            return Err(TrainError::option("accumulate", expected, batches));
        }
        self.pools.clear();
        if workers > 1 {
            let threads = (rayon::current_num_threads() / workers).max(1);
            let pool = || rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let pools = std::iter::repeat_with(pool).take(workers).collect::<Result<_, _>>();
            let expected = "as many as threads can be started for";
            self.pools = pools.map_err(|error| TrainError::option("workers", expected, error))?;
        }
        Ok(self)
    }

    /// The devices of the run: the model's own first.
    fn devices(&self) -> Vec<Device> {
        let own = self.model.devices().into_iter().take(1);
        own.chain(self.others.iter().cloned()).collect()
    }

    /// Step `step` of `total`. `loss` computes the loss of each batch of the step (its index is
    /// below [`LearnerOptions::accumulate`]), a tensor of one value on the device of the given
    /// model. It is called for one batch after the other.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] for a loss or gradient that is not finite, and the errors of
    /// `loss`. The model is then unchanged. (In f16 a step whose gradients overflow is skipped
    /// instead: see [`Update::skipped`].)
    pub fn update(
        &mut self,
        step: u64,
        total: u64,
        loss: impl FnMut(&M, usize) -> Result<Tensor<1>, TrainError>,
    ) -> Result<Update, TrainError> {
        let gradients = self.gradients_in_turn(loss)?;
        self.apply(step, total, gradients)
    }

    /// [`update`](Self::update) that computes as many batches at the same time as there are
    /// [workers](Self::with_workers).
    ///
    /// # Errors
    /// Those of [`update`](Self::update).
    pub fn update_at_once(
        &mut self,
        step: u64,
        total: u64,
        loss: impl Fn(&M, usize) -> Result<Tensor<1>, TrainError> + Sync,
    ) -> Result<Update, TrainError> {
        let gradients = match self.pools.is_empty() {
            true => self.gradients_in_turn(loss)?,
            false => self.gradients_at_once(&loss)?,
        };
        self.apply(step, total, gradients)
    }

    fn apply(
        &mut self,
        step: u64,
        total: u64,
        (loss, gradients): (f32, GradientsParams),
    ) -> Result<Update, TrainError> {
        let learning_rate = self.options.learning_rate.at(step, total);
        let clipped = clip_by_norm(&self.model, gradients, self.options.clip_norm);
        let skipped = matches!(clipped, Err(TrainError::NotFinite { .. }));
        let update = |gradient_norm| Update { loss, gradient_norm, learning_rate, skipped };
        if let Some(scale) = &mut self.loss_scale {
            scale.update(skipped)?;
            if skipped {
                return Ok(update(f32::INFINITY));
            }
        }
        let (gradients, gradient_norm) = clipped?;
        self.model = self.optimizer.step(learning_rate, self.model.clone(), gradients);
        if let Some(ema) = &mut self.ema {
            ema.update(&self.model);
        }
        Ok(update(gradient_norm))
    }

    fn pass(&self) -> Pass {
        let share = f64::from(self.scale()) / self.options.accumulate as f64;
        Pass { precision: self.precision, products: self.products, share }
    }

    fn scale(&self) -> f32 {
        self.loss_scale.map_or(1.0, |scale| scale.scale)
    }

    /// The mean loss of the batches of a step, and its gradients on the model's device.
    fn gradients_in_turn(
        &self,
        mut loss: impl FnMut(&M, usize) -> Result<Tensor<1>, TrainError>,
    ) -> Result<(f32, GradientsParams), TrainError> {
        let mut workers = vec![Worker::new(self.model.clone())];
        // A fork keeps the tensors' autodiff settings, and is a leaf of its own graph.
        let forks = self.others.iter().map(|device| self.model.clone().fork(device));
        workers.extend(forks.map(Worker::new));
        let (pass, count) = (self.pass(), workers.len());
        let losses = (0..self.options.accumulate)
            .map(|batch| workers[batch % count].add(pass, batch, &mut loss))
            .collect::<Result<Vec<_>, _>>()?;
        self.sum(workers, losses)
    }

    /// [`gradients_in_turn`](Self::gradients_in_turn), with a thread for each pool.
    fn gradients_at_once(
        &self,
        loss: &(impl Fn(&M, usize) -> Result<Tensor<1>, TrainError> + Sync),
    ) -> Result<(f32, GradientsParams), TrainError> {
        let device = &self.devices()[0];
        // A graph of its own for each: backward passes of one graph wait for each other.
        let forks = (1..self.pools.len()).map(|_| self.model.clone().fork(device));
        let workers: Vec<_> =
            std::iter::once(self.model.clone()).chain(forks).map(Worker::new).collect();
        let (pass, batches, count) = (self.pass(), self.options.accumulate, workers.len());
        let part = move |index: usize, mut worker: Worker<M>| {
            let batches = (index..batches).step_by(count);
            let losses: Result<Vec<_>, _> =
                batches.map(|batch| worker.add(pass, batch, loss)).collect();
            losses.map(|losses| (worker, losses))
        };
        let parts: Vec<_> = std::thread::scope(|scope| {
            let workers = workers.into_iter().zip(&self.pools).enumerate();
            let threads: Vec<_> = workers
                .map(|(index, (worker, pool))| {
                    scope.spawn(move || pool.install(|| part(index, worker)))
                })
                .collect();
            let joined = threads.into_iter().map(|thread| match thread.join() {
                Ok(part) => part,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.collect()
        });
        let parts = parts.into_iter().collect::<Result<Vec<_>, _>>()?;
        let (workers, losses): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        self.sum(workers, losses.concat())
    }

    /// The mean of the losses of all batches, and the sum of the workers' gradients.
    fn sum(
        &self,
        workers: Vec<Worker<M>>,
        losses: Vec<Tensor<1>>,
    ) -> Result<(f32, GradientsParams), TrainError> {
        let mut sum = 0.0;
        for loss in losses {
            let value = scalar(loss, "reading the loss")?;
            if !value.is_finite() {
                return Err(TrainError::NotFinite { what: "loss", value });
            }
            sum += value;
        }
        let mut workers = workers.into_iter();
        let own = workers.next().expect("the model is there");
        let (model, mut accumulator) = (own.model, own.accumulator);
        let device = self.devices()[0].clone().inner();
        for mut worker in workers {
            let gradients = worker.accumulator.grads().to_device(&device, &model);
            accumulator.accumulate(&model, gradients);
        }
        let gradients = match self.scale() {
            1.0 => accumulator.grads(),
            scale => scaled(&model, accumulator.grads(), 1.0 / scale),
        };
        Ok((sum / self.options.accumulate as f32, gradients))
    }

    /// Adds weights, averages and the optimizer's state to a checkpoint.
    ///
    /// # Errors
    /// An I/O error.
    pub fn save(&self, to: &CheckpointWriter, keys: &KeyMap) -> Result<(), TrainError> {
        to.module(WEIGHTS, &self.model, keys)?;
        if let Some(ema) = &self.ema {
            to.module(EMA, ema.module(), keys)?;
        }
        let path = to.path(OPTIMIZER);
        let bytes = self.optimizer.into_bytes().map_err(|e| TrainError::malformed(&path, e))?;
        to.file(OPTIMIZER, &bytes)?;
        if let Some(scale) = &self.loss_scale {
            let text = serde_json::to_vec(scale).expect("two numbers are JSON");
            to.file(LOSS_SCALE, &text)?;
        }
        Ok(())
    }

    /// Resumes from a checkpoint.
    ///
    /// # Errors
    /// A file that is missing or of another model.
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
        if let Some(scale) = &mut self.loss_scale {
            let path = from.path(LOSS_SCALE);
            let text = std::fs::read(&path).map_err(TrainError::io(&path))?;
            *scale = serde_json::from_slice(&text).map_err(|e| TrainError::malformed(&path, e))?;
        }
        Ok(())
    }
}
