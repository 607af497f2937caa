use burn::module::Module;
use burn::tensor::Device;
use editmgt_core::{KeyMap, MgtTransformer, TextConditioning, TextEncoder};
use editmgt_kernels::{Operands, WithOperands};
use editmgt_text::WordTokenizer;

use super::batch::BatchSettings;
use super::evaluate::evaluate;
use super::{
    EditBatch, EditDataset, EditModel, EditOptions, Order, Probe, TextLessons, slot_cross_entropy,
};
use crate::run::{
    Checkpoint, CheckpointWriter, Draws, Learner, LearnerOptions, Metrics, Precision, Products,
    TrainError, Trainee, freeze,
};

/// Source of the text features.
pub enum TextSide {
    /// The text encoder of the [`EditModel`], which is trained.
    Trained(WordTokenizer),
    /// A frozen encoder, on the model's device without autodiff.
    Frozen(Box<dyn TextEncoder>),
}

impl TextSide {
    pub(super) fn encode(
        &self,
        model: &EditModel,
        prompts: &[&str],
    ) -> editmgt_core::Result<TextConditioning> {
        match (self, model.text()) {
            (Self::Trained(tokenizer), Some(text)) => text.forward(&tokenizer.encode(prompts)?),
            (Self::Trained(_), None) => {
                let expected = "one, since the text side is trained";
                Err(editmgt_core::Error::value("text encoder of the model", expected, "none"))
            }
            (Self::Frozen(encoder), _) => {
                let text = encoder.encode(prompts)?;
                // A copy of the model may be on another device. The features are constants and need
                // no autodiff to be combined with weights that have it.
                let Some(device) = model.transformer().devices().into_iter().next() else {
                    return Ok(text);
                };
                let device = device.inner();
                Ok(TextConditioning {
                    hidden: text.hidden.to_device(&device),
                    pooled: text.pooled.to_device(&device),
                })
            }
        }
    }
}

/// Training and validation data of a run, of one grid.
pub struct EditData {
    /// To train on.
    pub train: Box<dyn EditDataset>,
    /// To evaluate on.
    pub validation: Box<dyn EditDataset>,
    /// What the first steps after the lessons train on in the place of `train`: one after the
    /// other. Empty for none.
    pub curriculum: Vec<CurriculumData>,
}

/// The data of some of the first steps of a run, as long as those of the others.
pub struct CurriculumData {
    /// Number of steps.
    pub steps: u64,
    /// To train on.
    pub train: Box<dyn EditDataset>,
}

impl EditData {
    /// The data of a step, counted from the end of the lessons.
    pub(super) fn train_at(&self, step: u64) -> &dyn EditDataset {
        let mut end = 0;
        let stage = self.curriculum.iter().find(|stage| {
            end += stage.steps; // Fewer than the run has, by `EditTrainer::new`.
            step < end
        });
        stage.map_or(&*self.train, |stage| &*stage.train)
    }

    /// Checks that all data have one grid, and every stage as many examples as the rest.
    fn check(&self) -> Result<(), TrainError> {
        let (grid, len) = (self.train.grid(), self.train.len());
        let stages = self.curriculum.iter().map(|stage| &stage.train);
        for (what, data) in std::iter::once(("grid of the validation data", &self.validation))
            .chain(stages.clone().map(|train| ("grid of the curriculum", train)))
        {
            if data.grid() != grid {
                return Err(editmgt_core::Error::shape(what, grid, data.grid()).into());
            }
        }
        if self.curriculum.iter().any(|stage| stage.steps == 0) {
            return Err(TrainError::option(
                "steps of the curriculum",
                "1 or more in each stage",
                0,
            ));
        }
        for train in stages {
            if train.len() != len {
                return Err(TrainError::option("examples of the curriculum", len, train.len()));
            }
        }
        Ok(())
    }
}

/// Instructions with their meaning, for the text-encoder warm-up.
pub trait Lessons {
    /// The number of classes of each question.
    fn classes(&self) -> Vec<usize>;

    /// Lesson `index`: an instruction, and the correct class of each question. Deterministic.
    ///
    /// # Errors
    /// [`TrainError::Data`] with the index.
    fn lesson(&self, index: u64) -> Result<(String, Vec<u32>), TrainError>;
}

/// How a run is trained: everything but the loss.
#[derive(Debug, Clone)]
pub struct TrainingPlan {
    /// Batches per step, optimizer, learning rate.
    pub learner: LearnerOptions,
    /// Number of steps of the run.
    pub steps: u64,
    /// Seed of all randomness.
    pub seed: u64,
    /// Regular expressions on the paths of parameters to freeze (see [`freeze`]).
    pub freeze: Vec<String>,
    /// The precision of losses and gradients.
    pub precision: Precision,
    /// Operands of matrix products on the CPU.
    pub products: Products,
    /// Batches of a step that are computed at the same time on the CPU, 1 or more.
    pub workers: usize,
    /// Devices beside the model's own, each of which computes its share of a step's batches.
    pub other_devices: Vec<Device>,
    /// Whether the model draws random numbers on its device (the dropout of an adapter): the device
    /// is then seeded before each step. Other random draws on that device would disturb it.
    pub draws_on_device: bool,
}

impl TrainingPlan {
    /// A run of `steps` steps in f32 on the model's device, with nothing frozen.
    pub fn new(learner: LearnerOptions, steps: u64, seed: u64) -> Self {
        Self {
            learner,
            steps,
            seed,
            freeze: Vec::new(),
            precision: Precision::default(),
            products: Products::default(),
            workers: 1,
            other_devices: Vec::new(),
            draws_on_device: false,
        }
    }
}

/// Trains an [`EditModel`].
pub struct EditTrainer {
    learner: Learner<EditModel>,
    accumulate: u64,
    operands: Operands,
    text: TextSide,
    data: EditData,
    order: Order,
    options: EditOptions,
    draws: Draws,
    steps: u64,
    lessons: Option<Box<dyn Lessons>>,
    probe: Option<Box<dyn Probe>>,
    /// Devices to seed before each step.
    seeded: Vec<Device>,
}

impl EditTrainer {
    /// A run with this plan. The model must be initialised and on an autodiff device.
    ///
    /// # Errors
    /// [`TrainError::Option`] for an option out of range or a freeze pattern without a match,
    /// [`TrainError::Stage`] when the data sets differ in their grid.
    pub fn new(
        model: EditModel,
        text: TextSide,
        data: EditData,
        options: EditOptions,
        plan: TrainingPlan,
    ) -> Result<Self, TrainError> {
        let spec = model.transformer().spec();
        options.validate([spec.double_blocks, spec.single_blocks])?;
        if let Some(lessons) = options.text_lessons.filter(|lessons| lessons.steps >= plan.steps) {
            let expected = format!("fewer than the run's {}", plan.steps);
            return Err(TrainError::option("text_lessons.steps", expected, lessons.steps));
        }
        data.check()?;
        let staged: u64 =
            data.curriculum.iter().fold(0, |sum, stage| sum.saturating_add(stage.steps));
        let lessons = options.text_lessons.map_or(0, |lessons| lessons.steps);
        if staged > 0 && staged >= plan.steps - lessons {
            let expected = format!("fewer than the {} after the lessons", plan.steps - lessons);
            return Err(TrainError::option("steps of the curriculum", expected, staged));
        }
        let draws = Draws::new(plan.seed);
        let mut seeded = Vec::new();
        if plan.draws_on_device {
            if plan.workers > 1 {
                let expected = "1 where the model draws on its device: in an order of chance";
                return Err(TrainError::option("workers", expected, plan.workers));
            }
            seeded = model.devices();
            seeded.extend(plan.other_devices.iter().cloned());
        }
        let accumulate = plan.learner.accumulate as u64;
        let learner = Learner::new(freeze(model, &plan.freeze)?, plan.learner)?
            .with_precision(plan.precision)?
            .with_devices(plan.other_devices)?
            .with_workers(plan.workers)?
            .with_products(plan.products)?;
        Ok(Self {
            accumulate,
            operands: plan.products.operands(),
            learner,
            order: Order::new(draws, data.train.len()),
            text,
            data,
            options,
            draws,
            steps: plan.steps,
            lessons: None,
            probe: None,
            seeded,
        })
    }

    /// Sets the lessons of the text-encoder warm-up ([`EditOptions::text_lessons`]). The model must
    /// have a head for them ([`EditModel::with_slot_head`]).
    pub fn with_lessons(mut self, lessons: Box<dyn Lessons>) -> Self {
        self.lessons = Some(lessons);
        self
    }

    /// Adds a probe to every evaluation.
    pub fn with_probe(mut self, probe: Box<dyn Probe>) -> Self {
        self.probe = Some(probe);
        self
    }

    /// A warm-up step of the text encoder.
    fn read(&mut self, step: u64, options: TextLessons) -> Result<Metrics, TrainError> {
        let batch = options.batch as u64;
        let Self { learner, text, lessons, accumulate, .. } = self;
        let expected = "lessons, since the options set text_lessons";
        let lessons =
            lessons.as_ref().ok_or_else(|| TrainError::option("text_lessons", expected, "none"))?;
        let mut right = 0.0;
        let update = learner.update(step, options.steps, |model, part| {
            let first = (step * *accumulate + part as u64) * batch;
            let lessons_of_step = (first..first + batch).map(|index| lessons.lesson(index));
            let (prompts, answers): (Vec<String>, Vec<Vec<u32>>) =
                lessons_of_step.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
            let prompts: Vec<&str> = prompts.iter().map(String::as_str).collect();
            let text = text.encode(model, &prompts)?;
            let expected = "a model with a slot head";
            let logits = model
                .slots(&text)
                .ok_or_else(|| TrainError::option("text_lessons", expected, "none"))?;
            let (loss, share) = slot_cross_entropy(logits, &lessons.classes(), &answers.concat())?;
            right += share / *accumulate as f64;
            Ok(loss)
        })?;
        Ok(Metrics::default()
            .with("loss", update.loss)
            .with("answers", right)
            .with("gradient_norm", update.gradient_norm)
            .with("learning_rate", update.learning_rate))
    }

    /// The trained model without autodiff: the average, if the run keeps one.
    pub fn trained(&self) -> EditModel {
        self.learner.trained()
    }
}

impl Trainee for EditTrainer {
    fn step(&mut self, step: u64) -> Result<Metrics, TrainError> {
        if let Some(lessons) = self.options.text_lessons
            && step < lessons.steps
        {
            return self.read(step, lessons);
        }
        let Self { learner, text, data, order, options, draws, .. } = self;
        let mut seeds = draws.stream("device", step);
        self.seeded.iter().for_each(|device| device.seed(seeds.bits()));
        // The learning rate schedule starts after the lessons.
        let lessons = options.text_lessons.map_or(0, |lessons| lessons.steps);
        let train = data.train_at(step - lessons);
        let settings = BatchSettings {
            options,
            draws,
            grid: train.grid(),
            micro: train.micro(),
            mask_token: learner.model().transformer().spec().mask_token,
        };
        let size = options.batch as u64;
        let (accumulate, operands) = (self.accumulate, self.operands);
        let text = &*text;
        let parts: Vec<(u64, Vec<u64>)> = (0..accumulate)
            .map(|part| {
                let number = step * accumulate + part;
                let samples = number * size..(number + 1) * size;
                (number, samples.map(|sample| order.at(sample)).collect())
            })
            .collect();
        let loss = |model: &EditModel, part: usize| {
            let (number, indices) = &parts[part];
            let batch = EditBatch::new(settings, *number, train.examples(indices)?)?;
            let prompts: Vec<&str> = batch.prompts.iter().map(String::as_str).collect();
            let model = model.clone().with_operands(operands);
            let text = text.encode(&model, &prompts)?;
            Ok(model.loss(&batch, &text, &options.loss)?)
        };
        let update = learner.update_at_once(step - lessons, self.steps - lessons, loss)?;
        let metrics = Metrics::default()
            .with("loss", update.loss)
            .with("gradient_norm", update.gradient_norm)
            .with("learning_rate", update.learning_rate);
        Ok(if update.skipped { metrics.with("skipped", 1.0) } else { metrics })
    }

    fn evaluate(&self, step: u64) -> Result<Metrics, TrainError> {
        let (model, data) = (self.trained(), self.data.validation.as_ref());
        let metrics = evaluate(&model, &self.text, data, &self.options)?;
        match &self.probe {
            Some(probe) => Ok(metrics.and(&probe.measure(model, step)?)),
            None => Ok(metrics),
        }
    }

    fn save(&self, to: &CheckpointWriter) -> Result<(), TrainError> {
        self.learner.save(to, &KeyMap::default())
    }

    fn load(&mut self, from: &Checkpoint) -> Result<(), TrainError> {
        self.learner.load(from, &KeyMap::default())
    }
}
