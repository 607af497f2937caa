use std::path::{Path, PathBuf};

use burn::module::{ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor};
use editmgt_checkpoint::{WeightsName, WriteOptions, save_module};
use editmgt_core::{Error, Flow, KeyMap};
use editmgt_vq::CodecConfig;

use super::data::Crops;
use super::loss::{reconstruction, straight_through};
use super::{
    Codebook, CodecReport, CodecTrainingConfig, ImageSource, Latents, PairSource, TrainableCodec,
    measure,
};
use crate::run::{
    Checkpoint, CheckpointWriter, Draws, Learner, Metrics, RunFolder, TrainError, TrainEvent,
    Trainee, initialise, run,
};

/// Training and validation data of a codec.
#[derive(Clone, Copy)]
pub struct CodecData<'a> {
    /// To train on.
    pub train: &'a dyn ImageSource,
    /// To evaluate on; disjoint from the training data.
    pub held_out: &'a dyn PairSource,
}

/// Trains a codec to its last step, or until `watch` returns stop, and writes it to the folder
/// `codec` of the run, in the official layout. Returns that folder and the codec's report.
///
/// # Errors
/// A config out of range, and the errors of [`run`].
pub fn train_codec(
    config: &CodecTrainingConfig,
    data: CodecData<'_>,
    folder: &RunFolder,
    device: &Device,
    watch: &mut dyn FnMut(&TrainEvent<'_>) -> Flow,
) -> Result<(PathBuf, CodecReport), TrainError> {
    config.validate()?;
    let device = device.clone().autodiff();
    match &config.codec {
        CodecConfig::Official(codec) => {
            let module = codec.init(&device)?;
            CodecTrainer::new(module, codec.keys(), config, data, device)?.run(folder, watch)
        }
        CodecConfig::Patch(codec) => {
            let module = codec.init(&device)?;
            CodecTrainer::new(module, codec.keys(), config, data, device)?.run(folder, watch)
        }
    }
}

pub(super) struct CodecTrainer<'a, C: TrainableCodec> {
    learner: Learner<C>,
    codebook: Codebook,
    keys: KeyMap,
    config: &'a CodecTrainingConfig,
    draws: Draws,
    data: CodecData<'a>,
    device: Device,
}

impl<'a, C: TrainableCodec> CodecTrainer<'a, C> {
    /// `device` must support autodiff.
    pub(super) fn new(
        codec: C,
        keys: KeyMap,
        config: &'a CodecTrainingConfig,
        data: CodecData<'a>,
        device: Device,
    ) -> Result<Self, TrainError> {
        let draws = Draws::new(config.seed);
        let codec = initialise(codec, &draws);
        let [_, channels] = codec.codebook().dims();
        let codes = codec.codebook().try_into_vec_as::<f32>();
        let codes = codes.map_err(|e| Error::device("reading a codebook", e))?;
        let learner =
            Learner::new(codec, config.learner.clone())?.with_products(config.products)?;
        let codebook = Codebook::new(codes, channels);
        Ok(Self { learner, codebook, keys, config, draws, data, device })
    }

    fn run(
        mut self,
        folder: &RunFolder,
        watch: &mut dyn FnMut(&TrainEvent<'_>) -> Flow,
    ) -> Result<(PathBuf, CodecReport), TrainError> {
        let options = &self.config.run;
        run(&mut self, folder, options, watch)?;
        let dir = folder.root().join("codec");
        self.export(&dir)?;
        Ok((dir, self.report()?))
    }

    /// Writes config and weights, replacing an earlier export.
    fn export(&self, dir: &Path) -> Result<(), TrainError> {
        let staging = editmgt_store::StagedFolder::replacing(dir)?;
        let options = WriteOptions::new(WeightsName::Diffusion, self.config.weights.into());
        save_module(staging.path(), &self.learner.trained(), &self.keys, &options)?;
        let path = staging.path().join("config.json");
        std::fs::write(&path, self.codec_json()).map_err(TrainError::io(&path))?;
        staging.publish()?;
        Ok(())
    }

    fn codec_json(&self) -> String {
        serde_json::to_string_pretty(&self.config.codec).expect("names and numbers are JSON")
    }

    /// Report of the codec that [`export`](Self::export) writes.
    fn report(&self) -> Result<CodecReport, TrainError> {
        let device = self.device.clone().inner();
        let codec = self.learner.trained().map(&mut Rounded(self.config.weights.into()));
        measure(&codec, self.data.held_out, self.config.evaluation_pairs, &device)
    }

    /// Initialises the codes by k-means on the latents of many crops.
    fn start_codebook(&mut self, step: u64) -> Result<(), TrainError> {
        let options = &self.config.codebook;
        let mut draws = self.draws.stream("k-means", step);
        let codec = self.learner.trained();
        let device = self.device.clone().inner();
        let channels = codec.codebook().dims()[1];
        let (mut values, mut per_batch) = (Vec::new(), 0);
        while values.len() < options.kmeans_vectors * channels {
            let crops = self.crops(&mut draws, &device)?;
            let vectors = Latents::read(codec.encode_latents(crops.images)?)?;
            per_batch = vectors.len() / channels;
            values.extend(vectors);
        }
        let count = values.len() / channels;
        let data = burn::tensor::TensorData::new(values.clone(), [1, 1, count, channels]);
        let latents = Tensor::<4>::from_data(data, &device).permute([0, 3, 1, 2]);
        let per_step = per_batch * self.config.learner.accumulate;
        let nearest = |codebook: &Codebook| {
            let codec = codec.clone().with_codebook(codebook.tensor(&device))?;
            read_ids(codec.nearest_codes(latents.clone())?)
        };
        let iterations = options.kmeans_iterations;
        self.codebook.start(values, iterations, per_step, &mut draws, nearest)?;
        self.put_codes()
    }

    /// Copies the codebook's codes into the codec.
    fn put_codes(&mut self) -> Result<(), TrainError> {
        let codes = self.codebook.tensor(&self.device);
        self.learner.change(|codec| Ok(codec.with_codebook(codes)?))
    }

    fn crops(&self, draws: &mut crate::run::Stream, device: &Device) -> Result<Crops, TrainError> {
        let options = &self.config.crops;
        let spec = self.learner.model().spec();
        let grid = if options.aligned { spec.downsample_factor } else { 1 };
        Crops::draw(self.data.train, options, grid, draws, device)
    }
}

impl<C: TrainableCodec> Trainee for CodecTrainer<'_, C> {
    fn step(&mut self, step: u64) -> Result<Metrics, TrainError> {
        let config = self.config;
        let options = &config.codebook;
        let quantizes = step >= options.start_at;
        if step == options.start_at {
            self.start_codebook(step)?;
        }
        let mut draws = self.draws.stream("crops", step);
        let batches = (0..config.learner.accumulate)
            .map(|_| self.crops(&mut draws, &self.device))
            .collect::<Result<Vec<_>, _>>()?;

        let mut vectors = Latents::default();
        let update = self.learner.update(step, config.run.steps, |codec, batch| {
            let Crops { images, weights } = &batches[batch];
            let latents = codec.encode_latents(images.clone())?;
            let latents =
                if quantizes && options.freeze_encoder { latents.detach() } else { latents };
            if !quantizes {
                let decoded = codec.decode_unclipped(latents)?;
                return Ok(reconstruction(decoded, images.clone(), weights.clone(), &config.loss));
            }
            let ids = codec.nearest_codes(latents.clone().detach())?;
            let codes = lookup(codec.codebook().detach(), ids.clone());
            vectors.values.extend(Latents::read(latents.clone().detach())?);
            vectors.ids.extend(read_ids(ids)?);
            let commitment = (latents.clone() - codes.clone()).square().mean();
            let decoded = codec.decode_unclipped(straight_through(latents, codes))?;
            let loss = reconstruction(decoded, images.clone(), weights.clone(), &config.loss);
            Ok(loss + commitment * config.loss.commitment)
        })?;

        let mut metrics = Metrics::default()
            .with("loss", update.loss)
            .with("gradient_norm", update.gradient_norm)
            .with("learning_rate", update.learning_rate);
        if quantizes {
            self.codebook.update(&vectors, options.decay);
            if (step + 1).is_multiple_of(options.revive_every) {
                let mut draws = self.draws.stream("revival", step);
                let revived =
                    self.codebook.revive_dead_codes(&vectors, options.revive_below, &mut draws);
                metrics = metrics.with("revived_codes", revived as f64);
            }
            self.put_codes()?;
        }
        Ok(metrics)
    }

    fn evaluate(&self, _step: u64) -> Result<Metrics, TrainError> {
        Ok(self.report()?.metrics())
    }

    fn save(&self, to: &CheckpointWriter) -> Result<(), TrainError> {
        self.learner.save(to, &self.keys)?;
        self.codebook.save(to)
    }

    fn load(&mut self, from: &Checkpoint) -> Result<(), TrainError> {
        self.learner.load(from, &self.keys)?;
        self.codebook = Codebook::load(from, self.learner.model().codebook())?;
        Ok(())
    }
}

/// Rounds every weight to a dtype, and casts it back to its own.
struct Rounded(DType);

impl ModuleMapper for Rounded {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|weight| {
            let dtype = weight.dtype();
            weight.cast(self.0).cast(dtype)
        })
    }
}

/// The codes, `[B, C, h, w]`, of `[B, h, w]` ids.
fn lookup(codebook: Tensor<2>, ids: Tensor<3, burn::tensor::Int>) -> Tensor<4> {
    let ([batch, height, width], [_, channels]) = (ids.dims(), codebook.dims());
    let codes = codebook.select(0, ids.flatten(0, 2));
    codes.reshape([batch, height, width, channels]).permute([0, 3, 1, 2])
}

fn read_ids(ids: Tensor<3, burn::tensor::Int>) -> Result<Vec<u32>, Error> {
    Ok(editmgt_core::TokenGrid::from_tensor(ids)?.ids().to_vec())
}
