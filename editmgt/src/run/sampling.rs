//! The sampling loop of a run, with the stages that options decide.

use editmgt_backends::{Dtype, DtypePolicy, available_memory};
use editmgt_core::{
    ChaChaNoise, EditObserver, Error, LoopProgress, NoiseSource, RegionHold, StepPlan,
    UnmaskScheduler,
};
use editmgt_kernels::PackedWeights;
use editmgt_sampler::{
    Consolidator, EditLoop, LoopInput, LoopStages, LoopStep, MaskingSchedule, Parity, Strict,
    Temperature,
};

use super::preview::{PreviewComposite, Previewing};
use crate::editor::Editor;
use crate::model::Model;
use crate::request::{EditSettings, Holding};

/// The stages of a loop that options decide.
pub(super) struct LoopOptions {
    pub(super) scheduler: Box<dyn UnmaskScheduler>,
    pub(super) consolidator: Consolidator,
    pub(super) seed: u64,
}

impl LoopOptions {
    pub(super) fn of_edit(model: &Model, settings: &EditSettings) -> Self {
        Self {
            scheduler: model.unmask_scheduler(settings),
            consolidator: settings.map_filter.stage(),
            seed: settings.seed,
        }
    }
}

/// The sampling loop of one edit, or of several at once.
pub(super) struct Sampling<'a> {
    pub(super) editor: &'a Editor,
    pub(super) options: LoopOptions,
    pub(super) hold: &'a dyn RegionHold,
    /// In the place of the editor's.
    pub(super) noise: Option<&'a dyn NoiseSource>,
    pub(super) input: LoopInput,
    pub(super) from: Option<LoopProgress>,
    pub(super) composite: Option<PreviewComposite<'a>>,
}

impl Sampling<'_> {
    pub(super) fn run(
        self,
        observer: &mut dyn EditObserver,
        visit: &mut dyn FnMut(LoopStep),
    ) -> Result<LoopProgress, Error> {
        let Self { editor, options, hold, noise, input, from, composite } = self;
        let (model, custom) = (editor.model(), editor.custom());
        let LoopOptions { scheduler, consolidator, seed } = options;
        let of_seed = ChaChaNoise::new(seed);
        let packed_weights = editor.kept_weights(input.step_plan);
        let stages = LoopStages::new(
            &*model.transformer,
            custom.scheduler.as_deref().unwrap_or(&*scheduler),
            custom.consolidator.as_deref().unwrap_or(&consolidator),
            hold,
            noise.or(custom.noise.as_deref()).unwrap_or(&of_seed),
        );
        let mut edit = match from {
            Some(progress) => EditLoop::resume(stages, input, progress)?,
            None => EditLoop::new(stages, input)?,
        };
        let mut previewing = Previewing { observer, codec: &*model.codec, composite, error: None };
        let outcome = match packed_weights {
            Some(kept) => kept.install(|| edit.run(&mut previewing, visit)),
            None => edit.run(&mut previewing, visit),
        };
        match previewing.error {
            Some(error) => Err(error),
            None => outcome.map(|()| edit.progress().clone()),
        }
    }
}

impl Editor {
    /// Where the packed weights of a loop are kept, which owns them: `None` where every step
    /// computes the whole canvas in f32, which takes much longer than packing.
    fn kept_weights(&self, plan: StepPlan) -> Option<PackedWeights> {
        let is_fast =
            |dtype: DtypePolicy| dtype.transformer == Dtype::Bf16 || !dtype.compute.is_dtype();
        let is_fast = self.model().source.as_ref().is_some_and(|source| is_fast(source.dtype));
        let available = || available_memory().map_or(0, |bytes| (bytes / 2) as usize);
        let limit = self.packed_weights.unwrap_or_else(available);
        ((plan != StepPlan::Exact || is_fast) && limit > 0).then(|| PackedWeights::new(limit))
    }
}

impl Model {
    /// The scheduler that fixes and re-masks tokens under these settings.
    pub fn unmask_scheduler(&self, settings: &EditSettings) -> Box<dyn UnmaskScheduler> {
        self.scheduler_of(settings.holding, settings.masking_schedule, settings.temperature)
    }

    /// The scheduler that fixes and re-masks tokens in this way.
    pub(crate) fn scheduler_of(
        &self,
        holding: Holding,
        masking: MaskingSchedule,
        (first, last): (f32, f32),
    ) -> Box<dyn UnmaskScheduler> {
        let temperature = Temperature::Range(first, last);
        let timesteps = self.scheduler.timesteps;
        match holding {
            Holding::Strict => {
                Box::new(Strict::new(masking, temperature).with_timesteps(timesteps))
            }
            Holding::Parity => {
                Box::new(Parity::new(masking, temperature).with_timesteps(timesteps))
            }
        }
    }
}
