//! Stages of a user's own in the place of the editor's.

use std::fmt;
use std::sync::Arc;

use editmgt_core::{
    AttentionConsolidator, MgtTransformer, NoiseSource, RegionHold, TextEncoder, UnmaskScheduler,
    VqCodec,
};

use crate::model::Model;

/// Stages that an [`EditorBuilder`](crate::EditorBuilder) was given. Where there is none, the request's
/// options decide.
#[derive(Clone, Default)]
pub(crate) struct CustomStages {
    pub(crate) scheduler: Option<Arc<dyn UnmaskScheduler>>,
    pub(crate) consolidator: Option<Arc<dyn AttentionConsolidator>>,
    pub(crate) hold: Option<Arc<dyn RegionHold>>,
    pub(crate) noise: Option<Arc<dyn NoiseSource>>,
}

impl CustomStages {
    /// The names of the stages that are replaced, for reports.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        let replaced = [
            ("scheduler", self.scheduler.is_some()),
            ("consolidator", self.consolidator.is_some()),
            ("hold", self.hold.is_some()),
            ("noise", self.noise.is_some()),
        ];
        replaced.into_iter().filter_map(|(name, is)| is.then_some(name)).collect()
    }
}

/// Components in the place of those of the model.
#[derive(Clone, Default)]
pub(crate) struct CustomParts {
    pub(crate) codec: Option<Arc<dyn VqCodec>>,
    pub(crate) text: Option<Arc<dyn TextEncoder>>,
    pub(crate) transformer: Option<Arc<dyn MgtTransformer>>,
}

impl CustomParts {
    /// The model with these parts; it is no longer the one of its source.
    pub(crate) fn replace(self, mut model: Model) -> Model {
        if self.codec.is_some() || self.text.is_some() || self.transformer.is_some() {
            model.source = None;
        }
        if let Some(codec) = self.codec {
            model.codec = Box::new(codec);
        }
        if let Some(text) = self.text {
            model.text = Box::new(text);
        }
        if let Some(transformer) = self.transformer {
            model.transformer = Box::new(transformer);
        }
        model
    }
}

impl fmt::Debug for CustomStages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl fmt::Debug for CustomParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomParts")
            .field("codec", &self.codec.is_some())
            .field("text", &self.text.is_some())
            .field("transformer", &self.transformer.is_some())
            .finish()
    }
}
