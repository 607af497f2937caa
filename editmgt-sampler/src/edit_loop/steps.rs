//! Full and partial steps of a loop.

use burn::tensor::{DType, FloatDType, Tensor};
use editmgt_core::{
    ActiveRows, AttentionMaps, AttentionRequest, Error, ReferenceInput, Result, StepCache,
    StepInput, StepOutput, StepPlan, TextConditioning, TokenGrid,
};

use super::EditLoop;
use crate::guidance::{add_guidance, classifier_free_guidance, guidance_of_halves};

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
    /// Guidance's difference `[B, N, V]` of the full step, if partial steps reuse it: the cache is
    /// that of the conditional half then.
    difference: Option<Tensor<3>>,
}

/// What a full pass keeps for partial steps.
struct Kept {
    output: StepOutput,
    cache: StepCache,
    difference: Option<Tensor<3>>,
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
            // The next full step takes its memory, if it keeps anything.
            let old = self.cached.take().map_or_else(|| self.no_cache(), |cached| cached.cache);
            self.progress.since_full.clear();
            let at = Step { timestep, guided: self.is_guided(step) };
            let keeps = step + 1 < self.schedule.len() && !self.is_full(step + 1);
            let StepOutput { logits, maps } = if keeps {
                let Kept { output, cache, difference } = self.kept_pass(at, &tokens, true, old)?;
                self.progress.since_full.push(tokens.clone());
                self.cached = Some(CachedCanvas { cache, computed: tokens, difference });
                output
            } else {
                drop(old);
                if at.guided && self.input.guidance_in_turn {
                    let [unconditional, conditional] =
                        self.halves(at, &tokens, &self.request(false, tokens.batch()), None)?;
                    let logits = guidance_of_halves(
                        unconditional.logits,
                        conditional.logits,
                        self.input.guidance_scale,
                    )?;
                    StepOutput { logits, maps: conditional.maps }
                } else {
                    let request = self.request(at.guided, tokens.batch());
                    self.pass(at, &tokens, &request, None)?
                }
            };
            return Ok(Pass { logits, maps, partial: None });
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
        let plan = if self.stages.transformer.caches_steps() {
            self.input.step_plan
        } else {
            StepPlan::Exact
        };
        let Some(done) = step.checked_sub(self.input.first_step) else { return true };
        let switched = done > 0 && self.is_guided(step) != self.is_guided(step - 1);
        plan.is_full(done) || switched
    }

    fn no_cache(&self) -> StepCache {
        StepCache::with_dtype(self.input.cache_dtype)
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
        let Kept { cache, difference, .. } =
            self.kept_pass(self.at(first)?, full, false, self.no_cache())?;
        let mut cached = CachedCanvas { cache, computed: full.clone(), difference };
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
        let none = AttentionRequest::none();
        let logits = match &cached.difference {
            Some(difference) => {
                let cache = Some((&mut cached.cache, Some(&active)));
                let at = Step { guided: false, ..at };
                let conditional = self.pass(at, tokens, &none, cache)?.logits;
                let difference = active.select(difference.clone())?;
                add_guidance(conditional, difference, self.input.guidance_scale)
            }
            None => {
                let of_pass = if at.guided { active.repeat(2) } else { active.clone() };
                let cache = Some((&mut cached.cache, Some(&of_pass)));
                self.pass(at, tokens, &none, cache)?.logits
            }
        };
        active.copy_tokens(tokens, &mut cached.computed);
        Ok((active.expand(logits)?, active.share()))
    }

    /// A pass over the whole canvas that fills `cache`, with whatever it has; attention is captured
    /// with `captures`.
    fn kept_pass(
        &self,
        at: Step,
        tokens: &TokenGrid,
        captures: bool,
        mut cache: StepCache,
    ) -> Result<Kept> {
        let request = |guided| {
            if captures { self.request(guided, tokens.batch()) } else { AttentionRequest::none() }
        };
        if !(at.guided && self.input.guidance_reuse) {
            let output = self.pass(at, tokens, &request(at.guided), Some((&mut cache, None)))?;
            return Ok(Kept { output, cache, difference: None });
        }
        // So that the cache has only the conditional half.
        let [unconditional, conditional] =
            self.halves(at, tokens, &request(false), Some((&mut cache, None)))?;
        let [uncond, cond] =
            [unconditional.logits, conditional.logits].map(|logits| logits.cast(FloatDType::F32));
        let difference = cond.clone() - uncond.clone();
        let logits = guidance_of_halves(uncond, cond, self.input.guidance_scale)?;
        let output = StepOutput { logits, maps: conditional.maps };
        Ok(Kept { output, cache, difference: Some(difference) })
    }

    /// The unconditional half of a guided step, and then the conditional one, which `request` and
    /// `cache` are for.
    fn halves(
        &self,
        at: Step,
        tokens: &TokenGrid,
        request: &AttentionRequest,
        cache: Option<(&mut StepCache, Option<&ActiveRows>)>,
    ) -> Result<[StepOutput; 2]> {
        let negative = self.input.negative.as_ref().unwrap_or(&self.input.text);
        let reference = self.input.reference.as_ref();
        let none = AttentionRequest::none();
        let unconditional =
            self.transform(at.timestep, tokens, negative, reference, &none, None)?;
        let at = Step { guided: false, ..at };
        Ok([unconditional, self.pass(at, tokens, request, cache)?])
    }

    /// One pass over `tokens`, logits after guidance; without a cache, over the whole canvas.
    fn pass(
        &self,
        Step { timestep, guided }: Step,
        tokens: &TokenGrid,
        request: &AttentionRequest,
        cache: Option<(&mut StepCache, Option<&ActiveRows>)>,
    ) -> Result<StepOutput> {
        if !guided {
            let (text, reference) = (&self.input.text, self.input.reference.as_ref());
            return self.transform(timestep, tokens, text, reference, request, cache);
        }
        let (both, reference) = (tokens.repeat(2), self.reference.as_ref());
        let StepOutput { logits, maps } =
            self.transform(timestep, &both, &self.text, reference, request, cache)?;
        let logits = classifier_free_guidance(logits, self.input.guidance_scale)?;
        Ok(StepOutput { logits, maps })
    }

    /// One pass of the transformer; without a cache, over the whole canvas.
    fn transform(
        &self,
        timestep: f32,
        tokens: &TokenGrid,
        text: &TextConditioning,
        reference: Option<&TokenGrid>,
        request: &AttentionRequest,
        cache: Option<(&mut StepCache, Option<&ActiveRows>)>,
    ) -> Result<StepOutput> {
        let batch = tokens.batch();
        let input = StepInput {
            tokens,
            reference: reference
                .map(|tokens| ReferenceInput { tokens, strength: self.input.reference_strength }),
            text,
            micro: &vec![self.input.micro; batch],
            timestep: &vec![timestep; batch],
        };
        let transformer = self.stages.transformer;
        match cache {
            None => transformer.forward(&input, request),
            Some((cache, active)) => transformer.forward_cached(&input, request, cache, active),
        }
    }
}
