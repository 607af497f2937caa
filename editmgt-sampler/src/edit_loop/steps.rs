//! Full and partial steps of a loop.

use burn::tensor::{DType, Tensor};
use editmgt_core::{
    ActiveRows, AttentionMaps, AttentionRequest, Error, ReferenceInput, Result, StepCache,
    StepInput, StepOutput, StepPlan, TokenGrid,
};

use super::EditLoop;
use crate::guidance::classifier_free_guidance;

/// The result of the transformer at one step.
pub(super) struct Pass {
    /// `[B, N, V]`, after guidance; 0 for tokens that weren't computed.
    pub(super) logits: Tensor<3>,
    /// The conditional half's attention.
    pub(super) maps: Option<AttentionMaps>,
    /// The fraction of the cells that was computed; `None`: a full step.
    pub(super) partial: Option<f32>,
}

/// What partial steps need of the steps since the last full one.
pub(super) struct CachedCanvas {
    cache: StepCache,
    /// The tokens for which each cell was computed last.
    computed: TokenGrid,
}

/// What all passes of a step have in common.
#[derive(Clone, Copy)]
struct Step {
    timestep: f32,
    guided: bool,
}

impl EditLoop<'_> {
    /// Runs the transformer for the next step.
    pub(super) fn forward(&mut self, timestep: f32) -> Result<Pass> {
        let step = self.progress.completed;
        let tokens = self.progress.tokens.clone();
        if self.is_full(step) {
            self.cached = None;
            self.progress.since_full.clear();
            let at = Step { timestep, guided: self.is_guided(step) };
            let request = self.request(at.guided, tokens.batch());
            let keeps = step + 1 < self.schedule.len() && !self.is_full(step + 1);
            let mut cache = keeps.then(StepCache::new);
            let output =
                self.pass(at, &tokens, &request, cache.as_mut().map(|cache| (cache, None)))?;
            if let Some(cache) = cache {
                self.progress.since_full.push(tokens.clone());
                self.cached = Some(CachedCanvas { cache, computed: tokens });
            }
            return Ok(Pass { logits: output.logits, maps: output.maps, partial: None });
        }
        let mut cached = match self.cached.take() {
            Some(cached) => cached,
            None => self.rebuild()?,
        };
        let (logits, share) = self.partial_step(step, &tokens, &mut cached)?;
        self.cached = Some(cached);
        self.progress.since_full.push(tokens);
        Ok(Pass { logits, maps: None, partial: Some(share) })
    }

    /// Whether a step is guided.
    pub(super) fn is_guided(&self, step: usize) -> bool {
        let (from, until) = self.input.guidance_interval;
        let middle = (step as f32 + 0.5) / self.schedule.len() as f32;
        self.input.guidance_scale > 1.0 && (from..=until).contains(&middle)
    }

    /// The last full step up to the next step.
    pub(super) fn last_full(&self) -> usize {
        let next = self.progress.completed;
        (0..=next).rev().find(|&step| self.is_full(step)).unwrap_or(next)
    }

    /// Whether a step computes the whole canvas: by the plan, or because the batch changes with
    /// guidance.
    fn is_full(&self, step: usize) -> bool {
        let plan = match self.stages.transformer.caches_steps() {
            true => self.input.step_plan,
            false => StepPlan::Exact,
        };
        let Some(done) = step.checked_sub(self.input.first_step) else { return true };
        let switched = done > 0 && self.is_guided(step) != self.is_guided(step - 1);
        plan.is_full(done) || switched
    }

    /// The cache of a resumed loop: repeats the passes since the last full step.
    fn rebuild(&self) -> Result<CachedCanvas> {
        let since_full = &self.progress.since_full;
        let first = self.progress.completed.checked_sub(since_full.len());
        let (Some(first), Some((full, partial))) = (first, since_full.split_first()) else {
            return Err(self.other_plan());
        };
        if !self.is_full(first)
            || (first + 1..self.progress.completed).any(|step| self.is_full(step))
        {
            return Err(self.other_plan());
        }
        let mut cache = StepCache::new();
        let none = AttentionRequest::none();
        self.pass(self.at(first)?, full, &none, Some((&mut cache, None)))?;
        let mut cached = CachedCanvas { cache, computed: full.clone() };
        for (index, tokens) in partial.iter().enumerate() {
            self.partial_step(first + 1 + index, tokens, &mut cached)?;
        }
        Ok(cached)
    }

    fn other_plan(&self) -> Error {
        let expected = "the canvases since the last full step, as a loop of the same step plan has";
        let got = format!("{} canvases", self.progress.since_full.len());
        Error::value("progress to resume from", expected, got)
    }

    fn at(&self, step: usize) -> Result<Step> {
        let timestep = self.schedule.timesteps.get(step).copied();
        let limit = || format!("below {}", self.schedule.len());
        let timestep = timestep.ok_or_else(|| Error::value("step", limit(), step))?;
        Ok(Step { timestep, guided: self.is_guided(step) })
    }

    /// The logits of a partial step, `[B, N, V]`, and the fraction of the cells that it computed.
    fn partial_step(
        &self,
        step: usize,
        tokens: &TokenGrid,
        cached: &mut CachedCanvas,
    ) -> Result<(Tensor<3>, f32)> {
        let spec = self.stages.transformer.spec();
        let Some(active) = ActiveRows::of_step(tokens, &cached.computed, spec)? else {
            // Every token is known: no logit is read.
            let device = self.input.text.hidden.device();
            let shape = [tokens.batch(), tokens.size().len(), spec.codebook_size];
            return Ok((Tensor::zeros(shape, (&device, DType::F32)), 0.0));
        };
        let at = self.at(step)?;
        let of_pass = if at.guided { active.repeat(2) } else { active.clone() };
        let cache = Some((&mut cached.cache, Some(&of_pass)));
        let output = self.pass(at, tokens, &AttentionRequest::none(), cache)?;
        active.copy_tokens(tokens, &mut cached.computed);
        Ok((active.expand(output.logits)?, active.share()))
    }

    /// One pass over `tokens`, logits after guidance; without a cache, over the whole canvas.
    fn pass(
        &self,
        Step { timestep, guided }: Step,
        tokens: &TokenGrid,
        request: &AttentionRequest,
        cache: Option<(&mut StepCache, Option<&ActiveRows>)>,
    ) -> Result<StepOutput> {
        let copies = if guided { 2 } else { 1 };
        let (text, reference) = if guided {
            (&self.text, self.reference.as_ref())
        } else {
            (&self.input.text, self.input.reference.as_ref())
        };
        let forward_batch = copies * tokens.batch();
        let input = StepInput {
            tokens: &tokens.repeat(copies),
            reference: reference
                .map(|tokens| ReferenceInput { tokens, strength: self.input.reference_strength }),
            text,
            micro: &vec![self.input.micro; forward_batch],
            timestep: &vec![timestep; forward_batch],
        };
        let transformer = self.stages.transformer;
        let StepOutput { logits, maps } = match cache {
            None => transformer.forward(&input, request)?,
            Some((cache, active)) => transformer.forward_cached(&input, request, cache, active)?,
        };
        let logits = if guided {
            classifier_free_guidance(logits, self.input.guidance_scale)?
        } else {
            logits
        };
        Ok(StepOutput { logits, maps })
    }
}
