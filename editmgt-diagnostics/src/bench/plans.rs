//! The time of all steps of an edit by step plan and by the share of the canvas that is edited.

use std::time::Instant;

use burn::tensor::Device;
use editmgt::{EditError, HoldPolicy};
use editmgt_backends::{Dtype, DtypePolicy, available_memory};
use editmgt_core::{ChaChaNoise, GridSize, MicroConditions, StepPlan, TokenGrid, TransformerSpec};
use editmgt_kernels::PackedWeights;
use editmgt_sampler::{
    Consolidator, EditLoop, LoopInput, LoopStages, SchedulerConfig, Strict, Temperature,
};
use editmgt_transformer::{MgtConfig, MgtModel};
use serde::Serialize;

use super::stages::text_rows;
use super::timing::wait;
use super::{BenchRequest, Preset, config_error, inputs};
use crate::init::Configs;
use crate::process;

/// Which edits are measured.
#[derive(Debug, Clone)]
pub struct PlansRequest {
    /// The sizes of the model.
    pub preset: Preset,
    /// Both sides of the images, positive multiples of 32.
    pub sizes: Vec<usize>,
    /// The edited shares of the canvas, above 0, up to 1.
    pub shares: Vec<f32>,
    /// The plans that are compared with [`StepPlan::Exact`].
    pub plans: Vec<StepPlan>,
    /// Steps of an edit, 1 or more.
    pub steps: usize,
    /// The steps of the exact plan that are measured, 1 to `steps`: each computes the same shapes.
    pub exact_steps: usize,
    /// Whether partial steps reuse guidance's difference.
    pub guidance_reuse: bool,
    /// The device.
    pub device: Device,
    /// The precision of each component.
    pub dtype: DtypePolicy,
}

impl PlansRequest {
    fn check(&self) -> Result<(), EditError> {
        for &size in &self.sizes {
            BenchRequest::check_size(size)?;
        }
        for &share in &self.shares {
            if !(share > 0.0 && share <= 1.0) {
                return Err(EditError::option("shares", "above 0, up to 1", share));
            }
        }
        for &plan in &self.plans {
            if plan == StepPlan::Exact || !plan.is_valid() {
                let expected = format!("cached plans with numbers up to {}", StepPlan::MAX);
                return Err(EditError::option("plans", expected, plan));
            }
        }
        if self.steps == 0 {
            return Err(EditError::option("steps", "1 or more", self.steps));
        }
        if !(1..=self.steps).contains(&self.exact_steps) {
            let expected = format!("1 to {} steps", self.steps);
            return Err(EditError::option("exact steps", expected, self.exact_steps));
        }
        for (option, missing) in
            [("sizes", self.sizes.is_empty()), ("shares", self.shares.is_empty())]
        {
            if missing {
                return Err(EditError::option(option, "at least one", "none"));
            }
        }
        match self.preset {
            Preset::AmusedTiny => Err(EditError::option("preset", "full or tiny", self.preset)),
            Preset::Full | Preset::Tiny | Preset::MeissonicTiny => Ok(()),
        }
    }
}

/// The time of the steps of one edit.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PlanTime {
    /// The transformer's precision.
    pub dtype: Dtype,
    /// Both sides of the image, pixels.
    pub size: usize,
    /// The plan, in its text form.
    #[serde(serialize_with = "super::as_text")]
    pub plan: StepPlan,
    /// The share of the canvas that is masked at first; the time of the exact plan doesn't depend
    /// on it.
    pub share: f32,
    /// Seconds of the steps that computed the whole canvas, in order.
    pub full: Vec<f64>,
    /// Seconds of the others.
    pub partial: Vec<f64>,
    /// Seconds of all steps of the edit: the sum or, for the exact plan, the mean of the measured
    /// steps times the number of steps.
    pub seconds: f64,
    /// CPU seconds of all cores, likewise; `None` if the system doesn't report it.
    pub cpu_seconds: Option<f64>,
    /// [`seconds`](Self::seconds) by those of the exact plan of this size.
    pub of_exact: f64,
    /// Peak memory of the process, weights included, in bytes (host memory, not a GPU's); `None` if
    /// the system doesn't report it.
    pub peak_memory_bytes: Option<u64>,
}

/// Runs the loop of an edit, guided and with a reference, with random weights in the sizes of a
/// preset: for each size the exact plan, then each plan at each share. The codec and the text
/// encoders are not part of it, nor are attention maps. Passes each result to `done` when it is
/// finished.
///
/// As in an edit, cached plans keep packed weights within half of the memory that is available;
/// packing counts.
///
/// # Errors
/// [`EditError::Option`] for an invalid request, [`EditError::Stage`] when a stage fails.
pub fn plan_times(
    request: &PlansRequest,
    mut done: impl FnMut(&PlanTime),
) -> Result<Vec<PlanTime>, EditError> {
    request.check()?;
    let bench = Bench::new(request)?;
    let mut times = Vec::new();
    for &size in &request.sizes {
        // Neither the first use of memory nor the loading of code counts.
        bench.measure(size, StepPlan::Exact, request.shares[0], 1)?;
        let exact = bench.measure(size, StepPlan::Exact, request.shares[0], request.exact_steps)?;
        let exact = exact.times(request.steps as f64 / request.exact_steps as f64);
        let of_exact = |time: PlanTime| PlanTime { of_exact: time.seconds / exact.seconds, ..time };
        let mut add = |time: PlanTime| {
            done(&time);
            times.push(time);
        };
        add(of_exact(exact.clone()));
        for &plan in &request.plans {
            for &share in &request.shares {
                add(of_exact(bench.measure(size, plan, share, request.steps)?));
            }
        }
    }
    Ok(times)
}

impl PlanTime {
    /// Of an edit of which only the sum is known.
    pub fn new(dtype: Dtype, size: usize, plan: StepPlan, share: f32, seconds: f64) -> Self {
        let (full, partial) = (Vec::new(), Vec::new());
        let (cpu_seconds, peak_memory_bytes) = (None, None);
        Self {
            dtype,
            size,
            plan,
            share,
            full,
            partial,
            seconds,
            cpu_seconds,
            of_exact: 1.0,
            peak_memory_bytes,
        }
    }

    /// As if each step had been made this many times.
    fn times(self, factor: f64) -> Self {
        let cpu_seconds = self.cpu_seconds.map(|seconds| factor * seconds);
        Self { seconds: factor * self.seconds, cpu_seconds, ..self }
    }
}

/// What the edits have in common.
struct Bench<'a> {
    request: &'a PlansRequest,
    model: MgtModel,
    spec: TransformerSpec,
    text_rows: usize,
    scheduler: Strict,
}

impl<'a> Bench<'a> {
    fn new(request: &'a PlansRequest) -> Result<Self, EditError> {
        let configs = Configs::of(request.preset);
        let config =
            MgtConfig::from_json(&configs.text("editmgt")).map_err(config_error("editmgt"))?;
        let model = config.init(&request.device).map_err(config_error("editmgt"))?;
        let model = inputs::for_inference(
            model,
            &request.device,
            (request.dtype.transformer, request.dtype.compute),
        );
        let scheduler = SchedulerConfig::from_json(&configs.text("scheduler"));
        let scheduler = scheduler.map_err(config_error("scheduler"))?;
        Ok(Self {
            spec: config.spec(),
            text_rows: text_rows(&config),
            scheduler: Strict::new(scheduler.masking_schedule, Temperature::Range(2.0, 0.0))
                .with_timesteps(scheduler.timesteps),
            request,
            model,
        })
    }

    /// The first `steps` steps of an edit.
    fn measure(
        &self,
        size: usize,
        plan: StepPlan,
        share: f32,
        steps: usize,
    ) -> Result<PlanTime, EditError> {
        let (request, spec) = (self.request, &self.spec);
        let grid = GridSize::new(size / PIXELS_PER_TOKEN, size / PIXELS_PER_TOKEN);
        let reference = inputs::codes(1, grid, spec.codebook_size)?;
        let features = || inputs::text(1, self.text_rows, spec, &request.device);
        let canvas = masked(&reference, spec, share)?;
        let micro = MicroConditions::uncropped(size, size);
        let input = LoopInput::new(features(), canvas, micro, request.steps)
            .with_guidance(6.0, Some(features()))
            .with_reference(reference, 1.1)
            .with_step_plan(plan)
            .with_guidance_reuse(request.guidance_reuse);
        let (consolidator, noise) = (Consolidator::default(), ChaChaNoise::new(0));
        let hold = HoldPolicy::Off.stage(0)?;
        let stages = LoopStages::new(&self.model, &self.scheduler, &consolidator, &*hold, &noise);
        let mut edit = EditLoop::new(stages, input)?;

        let (mut full, mut partial) = (Vec::new(), Vec::new());
        let mut run = || -> Result<(), EditError> {
            for _ in 0..steps {
                let start = Instant::now();
                let step = edit.step()?;
                wait(&request.device)?;
                let seconds = start.elapsed().as_secs_f64();
                if step.partial.is_some() { partial.push(seconds) } else { full.push(seconds) }
            }
            Ok(())
        };
        process::reset_peak_memory();
        let cpu_before = process::cpu_seconds();
        // As the editor does.
        if plan == StepPlan::Exact && request.dtype.transformer != Dtype::Bf16 {
            run()?;
        } else {
            let limit = available_memory().map_or(0, |bytes| (bytes / 2) as usize);
            PackedWeights::new(limit).install(run)?;
        }
        let cpu_seconds =
            process::cpu_seconds().zip(cpu_before).map(|(after, before)| after - before);
        let seconds = full.iter().chain(&partial).sum();
        let peak_memory_bytes = process::peak_memory();
        let time = PlanTime::new(request.dtype.transformer, size, plan, share, seconds);
        Ok(PlanTime { full, partial, cpu_seconds, peak_memory_bytes, ..time })
    }
}

/// The codec's, in every preset.
const PIXELS_PER_TOKEN: usize = 16;

/// The photo's tokens with this share of the cells masked, the first ones in the order of rows:
/// where they lie doesn't change the work.
fn masked(photo: &TokenGrid, spec: &TransformerSpec, share: f32) -> Result<TokenGrid, EditError> {
    let (size, factor) = (photo.size(), spec.grid_factor);
    let cells = size.div_ceil(factor);
    let masked = (share * cells.len() as f32).round().max(1.0) as usize;
    let ids = photo.ids().iter().enumerate().map(|(token, &id)| {
        let (y, x) = (token / size.width / factor, token % size.width / factor);
        if y * cells.width + x < masked { spec.mask_token } else { id }
    });
    Ok(TokenGrid::new(1, size, ids.collect())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> PlansRequest {
        PlansRequest {
            preset: Preset::Tiny,
            sizes: vec![64, 96],
            shares: vec![0.25, 1.0],
            plans: vec![StepPlan::cached(2), StepPlan::Cached { warm_up: 1, refresh: 0 }],
            steps: 6,
            exact_steps: 2,
            guidance_reuse: false,
            device: editmgt_backends::open("cpu").expect("a build with a CPU backend"),
            dtype: DtypePolicy::uniform(Dtype::F32),
        }
    }

    #[test]
    fn each_plan_is_measured_at_each_share_after_the_exact_one() {
        for guidance_reuse in [false, true] {
            let mut shown = Vec::new();
            let request = PlansRequest { guidance_reuse, ..request() };
            let times = plan_times(&request, |time| shown.push(time.clone())).unwrap();
            assert_eq!(times, shown);
            let rows: Vec<_> =
                times.iter().map(|time| (time.size, time.plan.to_string(), time.share)).collect();
            let of = |size| {
                [("exact", 0.25), ("cached:2", 0.25), ("cached:2", 1.0)]
                    .into_iter()
                    .chain([("cached:never:1", 0.25), ("cached:never:1", 1.0)])
                    .map(move |(plan, share)| (size, plan.to_owned(), share))
            };
            assert_eq!(rows, of(64).chain(of(96)).collect::<Vec<_>>());
            for time in times {
                let steps = (time.full.len(), time.partial.len());
                let sum: f64 = time.full.iter().chain(&time.partial).sum();
                let (expected, factor) = match time.plan.to_string().as_str() {
                    "exact" => ((2, 0), 3.0),
                    // Steps 0, 1, 3, 5.
                    "cached:2" => ((4, 2), 1.0),
                    _ => ((1, 5), 1.0),
                };
                assert_eq!(steps, expected, "{time:?}");
                assert!((time.seconds - factor * sum).abs() < 1e-9, "{time:?}");
                assert!(time.plan != StepPlan::Exact || time.of_exact == 1.0, "{time:?}");
                assert!(time.of_exact > 0.0, "{time:?}");
            }
        }
    }

    #[test]
    fn a_share_is_one_of_cells() {
        let spec = MgtConfig::from_json(&Configs::of(Preset::Tiny).text("editmgt")).unwrap().spec();
        let photo = inputs::codes(1, GridSize::new(8, 8), spec.codebook_size).unwrap();
        let tokens_of_a_cell = spec.grid_factor * spec.grid_factor;
        let cells = 64 / tokens_of_a_cell;
        for share in [0.001, 0.25, 0.5, 1.0] {
            let masked = masked(&photo, &spec, share).unwrap();
            let expected = ((share * cells as f32) as usize).max(1) * tokens_of_a_cell;
            assert_eq!(masked.count(spec.mask_token), expected, "{share}");
        }
    }

    #[test]
    fn rejects_invalid_requests() {
        let good = request;
        for (bad, message) in [
            (PlansRequest { sizes: vec![48], ..good() }, "size: expected a multiple of 32"),
            (PlansRequest { sizes: vec![], ..good() }, "sizes: expected at least one, got none"),
            (PlansRequest { shares: vec![], ..good() }, "shares: expected at least one"),
            (PlansRequest { shares: vec![0.0], ..good() }, "shares: expected above 0"),
            (PlansRequest { shares: vec![1.5], ..good() }, "shares: expected above 0"),
            (PlansRequest { shares: vec![f32::NAN], ..good() }, "shares: expected above 0"),
            (PlansRequest { plans: vec![StepPlan::Exact], ..good() }, "plans: expected cached"),
            (PlansRequest { steps: 0, ..good() }, "steps: expected 1 or more, got 0"),
            (PlansRequest { exact_steps: 0, ..good() }, "exact steps: expected 1 to 6"),
            (PlansRequest { exact_steps: 7, ..good() }, "exact steps: expected 1 to 6"),
            (PlansRequest { preset: Preset::AmusedTiny, ..good() }, "preset: expected full"),
        ] {
            let error = plan_times(&bad, |_| ()).unwrap_err().to_string();
            assert!(error.starts_with(message), "{message}: {error}");
        }
    }
}
