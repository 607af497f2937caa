use burn::tensor::DType;
use editmgt::{EditError, EditRequest, Editor, Photo};
use editmgt_core::{
    ChaChaNoise, EditEvent, EditObserver, Error, Flow, HoldMask, NoiseRequest, NoiseSource, Result,
    TokenDraw,
};
use editmgt_sampler::LoopStep;

/// Decisions of an edit, step by step.
#[derive(Debug, Default)]
pub(super) struct EditTrace {
    /// The tokens of the photo.
    pub(super) photo: Vec<u32>,
    pub(super) steps: Vec<StepTrace>,
    /// Of the result, RGB.
    pub(super) pixels: Vec<u8>,
}

/// Decisions of a step over `N` tokens, and their inputs.
#[derive(Debug, Clone)]
pub(super) struct StepTrace {
    /// The canvas after it.
    pub(super) tokens: Vec<u32>,
    /// The predictions, before the least confident are masked again.
    pub(super) predicted: Vec<u32>,
    pub(super) held: Vec<bool>,
    /// Empty without a score-based hold.
    pub(super) scores: Vec<f32>,
    /// `[N, V]`.
    pub(super) logits: Vec<f32>,
    /// The uniforms that drew the tokens.
    pub(super) uniforms: Vec<f32>,
}

/// Records the canvas after each step.
#[derive(Default)]
struct Canvases(Vec<Vec<u32>>);

impl EditObserver for Canvases {
    fn event(&mut self, event: &EditEvent<'_>) -> Flow {
        if let EditEvent::Step { tokens, .. } = event {
            self.0.push(tokens.ids().to_vec());
        }
        Flow::Continue
    }
}

impl EditTrace {
    pub(super) fn of(
        editor: &Editor,
        photo: &Photo,
        request: &EditRequest,
    ) -> Result<Self, EditError> {
        let (mut canvases, mut steps) = (Canvases::default(), Vec::new());
        let result =
            editor.edit_visiting(photo, request, &mut canvases, &mut |step| steps.push(step))?;
        let steps = steps.into_iter().zip(canvases.0);
        let steps = steps.map(|(step, tokens)| StepTrace::new(request, step, tokens));
        Ok(Self {
            photo: result.reference.ids().to_vec(),
            steps: steps.collect::<Result<_>>()?,
            pixels: result.image.rgb().as_raw().clone(),
        })
    }
}

impl StepTrace {
    fn new(request: &EditRequest, step: LoopStep, tokens: Vec<u32>) -> Result<Self> {
        let noise = ChaChaNoise::new(request.seed).step_noise(&NoiseRequest {
            first_image: request.variation as usize,
            batch: 1,
            size: step.predicted.size(),
            step: step.completed - 1,
        })?;
        let uniforms = match noise.draw {
            TokenDraw::Uniforms(uniforms) => uniforms,
            TokenDraw::Tokens(_) => unreachable!("ChaCha draws uniforms"),
        };
        let logits = step.logits.cast(DType::F32).try_into_vec_as::<f32>();
        Ok(Self {
            held: step
                .hold
                .as_ref()
                .map_or(vec![false; tokens.len()], |h: &HoldMask| h.held().to_vec()),
            tokens,
            predicted: step.predicted.ids().to_vec(),
            scores: step.scores.map_or(Vec::new(), |scores| scores.values().to_vec()),
            logits: logits.map_err(|e| Error::device("reading logits", e))?,
            uniforms,
        })
    }
}
