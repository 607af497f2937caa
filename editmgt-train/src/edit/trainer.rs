use burn::module::Module;
use burn::tensor::Device;
use editmgt_core::{KeyMap, MgtTransformer, TextConditioning, TextEncoder};
use editmgt_text::WordTokenizer;

use super::batch::BatchSettings;
use super::evaluate::evaluate;
use super::{
    EditBatch, EditDataset, EditModel, EditOptions, Order, Probe, TextLessons, slot_cross_entropy,
};
use crate::run::{
    Checkpoint, CheckpointWriter, Draws, Learner, LearnerOptions, Metrics, Precision, TrainError,
    Trainee, freeze,
};

/// Where the features of instructions come from.
pub enum TextSide {
    /// From the text encoder of the [`EditModel`], which is trained.
    Trained(WordTokenizer),
    /// From an encoder that stays as it is, on the model's device without autodiff.
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
                let expected = "one, for a text side that is trained";
                Err(editmgt_core::Error::value("text encoder of the model", expected, "none"))
            }
            (Self::Frozen(encoder), _) => {
                let text = encoder.encode(prompts)?;
                // A copy of the model may be elsewhere. The features are constants: they need no
                // autodiff to meet weights that have it.
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

/// The data of a run; both sets must be of one grid.
pub struct EditData {
    /// To learn from.
    pub train: Box<dyn EditDataset>,
    /// To evaluate.
    pub validation: Box<dyn EditDataset>,
}

/// Instructions and what they say, to learn reading from.
pub trait Lessons {
    /// How many classes each question has.
    fn classes(&self) -> Vec<usize>;

    /// Lesson `index`: an instruction, and the class that answers each question. The same index
    /// gives the same lesson on every call.
    ///
    /// # Errors
    /// [`TrainError::Data`] with the index.
    fn lesson(&self, index: u64) -> Result<(String, Vec<u32>), TrainError>;
}

/// How a run learns, but for what is minimised.
#[derive(Debug, Clone)]
pub struct TrainingPlan {
    /// Batches of a step, optimizer, learning rate.
    pub learner: LearnerOptions,
    /// All steps of the run.
    pub steps: u64,
    /// Everything random follows from it.
    pub seed: u64,
    /// Regular expressions on the paths of parameters that stay as they are (see [`freeze`]).
    pub freeze: Vec<String>,
    /// The precision of losses and gradients.
    pub precision: Precision,
    /// Devices beside the model's own, each of which does its share of the batches of a step.
    pub other_devices: Vec<Device>,
    /// Whether the model draws on its device (the dropout of an adapter): the device is seeded
    /// before each step then. Anything else that draws there at the same time disturbs it.
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
            other_devices: Vec::new(),
            draws_on_device: false,
        }
    }
}

/// Trains an [`EditModel`].
pub struct EditTrainer {
    learner: Learner<EditModel>,
    accumulate: u64,
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
    /// A run as planned. The model comes with its weights and on an autodiff device.
    ///
    /// # Errors
    /// [`TrainError::Option`] for an option out of range or a pattern that freezes nothing,
    /// [`TrainError::Stage`] when the two data sets differ in their grid.
    pub fn new(
        model: EditModel,
        text: TextSide,
        data: EditData,
        options: EditOptions,
        plan: TrainingPlan,
    ) -> Result<Self, TrainError> {
        options.validate(model.transformer().spec().blocks())?;
        if let Some(lessons) = options.text_lessons.filter(|lessons| lessons.steps >= plan.steps) {
            let expected = format!("fewer than the run's {}", plan.steps);
            return Err(TrainError::option("text_lessons.steps", expected, lessons.steps));
        }
        let (train, validation) = (data.train.grid(), data.validation.grid());
        if train != validation {
            let error =
                editmgt_core::Error::shape("grid of the validation data", train, validation);
            return Err(error.into());
        }
        let draws = Draws::new(plan.seed);
        let mut seeded = Vec::new();
        if plan.draws_on_device {
            seeded = model.devices();
            seeded.extend(plan.other_devices.iter().cloned());
        }
        let accumulate = plan.learner.accumulate as u64;
        let learner = Learner::new(freeze(model, &plan.freeze)?, plan.learner)?
            .with_precision(plan.precision)?
            .with_devices(plan.other_devices)?;
        Ok(Self {
            accumulate,
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

    /// Learns to read from these first, as long as [`EditOptions::text_lessons`] says. The model
    /// must have the head for it ([`EditModel::with_slot_head`]).
    pub fn with_lessons(mut self, lessons: Box<dyn Lessons>) -> Self {
        self.lessons = Some(lessons);
        self
    }

    /// Measures this at every evaluation, too.
    pub fn with_probe(mut self, probe: Box<dyn Probe>) -> Self {
        self.probe = Some(probe);
        self
    }

    /// A step of learning to read.
    fn read(&mut self, step: u64, options: TextLessons) -> Result<Metrics, TrainError> {
        let batch = options.batch as u64;
        let Self { learner, text, lessons, accumulate, .. } = self;
        let expected = "lessons, as the options say that there are some";
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
            let expected = "a model that learns to read";
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

    /// The model to use: averaged where the run averages, without autodiff.
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
        let settings = BatchSettings {
            options,
            draws,
            grid: data.train.grid(),
            micro: data.train.micro(),
            mask_token: learner.model().transformer().spec().mask_token,
        };
        let size = options.batch as u64;
        let accumulate = self.accumulate;
        // The learning rate begins anew after the lessons.
        let lessons = options.text_lessons.map_or(0, |lessons| lessons.steps);
        let update = learner.update(step - lessons, self.steps - lessons, |model, part| {
            let number = step * accumulate + part as u64;
            let samples = number * size..(number + 1) * size;
            let indices: Vec<u64> = samples.map(|sample| order.at(sample)).collect();
            let batch = EditBatch::new(settings, number, data.train.examples(&indices)?)?;
            let prompts: Vec<&str> = batch.prompts.iter().map(String::as_str).collect();
            let text = text.encode(model, &prompts)?;
            Ok(model.loss(&batch, &text, &options.loss)?)
        })?;
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
