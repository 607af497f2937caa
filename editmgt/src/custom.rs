//! Stages of a user's own in the place of the editor's.

use std::fmt;
use std::sync::Arc;

use editmgt_core::{
    AttentionConsolidator, MgtTransformer, NoiseSource, RegionHold, TextEncoder, UnmaskScheduler,
    VqCodec,
};
use editmgt_sampler::SchedulerConfig;

use crate::error::ModelError;
use crate::request::{EditDefaults, EditSettings};

/// Stages that an [`EditorBuilder`](crate::EditorBuilder) was given. Where there is none, the
/// request's options decide.
#[derive(Clone, Default)]
pub(crate) struct CustomStages {
    pub(crate) scheduler: Option<Arc<dyn UnmaskScheduler>>,
    pub(crate) consolidator: Option<Arc<dyn AttentionConsolidator>>,
    pub(crate) hold: Option<Arc<dyn RegionHold>>,
    pub(crate) noise: Option<Arc<dyn NoiseSource>>,
}

impl CustomStages {
    /// The names of the stages that are replaced under these settings, for reports.
    pub(crate) fn names(&self, settings: &EditSettings) -> Vec<&'static str> {
        // What stays of an inpainting is known, not held.
        let is_edit = !settings.task.is_inpainting();
        self.replaced(is_edit && (self.hold.is_some() || settings.hold.is_custom()))
    }

    /// The names of the stages that are replaced where nothing is held by a policy.
    pub(crate) fn names_without_hold(&self) -> Vec<&'static str> {
        self.replaced(false)
    }

    fn replaced(&self, hold: bool) -> Vec<&'static str> {
        let replaced = [
            ("scheduler", self.scheduler.is_some()),
            ("consolidator", self.consolidator.is_some()),
            ("hold", hold),
            ("noise", self.noise.is_some()),
        ];
        replaced.into_iter().filter_map(|(name, is)| is.then_some(name)).collect()
    }
}

/// Components and configs in the place of those of the model.
#[derive(Clone, Default)]
pub(crate) struct CustomParts {
    pub(crate) codec: Option<Arc<dyn VqCodec>>,
    pub(crate) text: Option<Arc<dyn TextEncoder>>,
    pub(crate) transformer: Option<Arc<dyn MgtTransformer>>,
    pub(crate) scheduler: Option<SchedulerConfig>,
    pub(crate) defaults: Option<EditDefaults>,
}

impl CustomParts {
    /// Whether no component of the model is left.
    pub(crate) fn replace_all(&self) -> bool {
        self.codec.is_some() && self.text.is_some() && self.transformer.is_some()
    }

    /// Whether the model is no longer the one of its folder. (Defaults say how it is used, not what
    /// it is.)
    pub(crate) fn change_model(&self) -> bool {
        self.codec.is_some()
            || self.text.is_some()
            || self.transformer.is_some()
            || self.scheduler.is_some()
    }

    /// The three components.
    pub(crate) fn all(&self) -> Result<AllParts, ModelError> {
        let missing = |part| move || ModelError::MissingPart { part };
        Ok((
            self.codec.clone().ok_or_else(missing("codec"))?,
            self.text.clone().ok_or_else(missing("text"))?,
            self.transformer.clone().ok_or_else(missing("transformer"))?,
        ))
    }
}

type AllParts = (Arc<dyn VqCodec>, Arc<dyn TextEncoder>, Arc<dyn MgtTransformer>);

impl fmt::Debug for CustomStages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.replaced(self.hold.is_some())).finish()
    }
}

impl fmt::Debug for CustomParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomParts")
            .field("codec", &self.codec.is_some())
            .field("text", &self.text.is_some())
            .field("transformer", &self.transformer.is_some())
            .field("scheduler", &self.scheduler)
            .field("defaults", &self.defaults)
            .finish()
    }
}
