use burn::tensor::Tensor;
use editmgt::{EditError, EditRequest, Editor, Photo, default_blocks};
use editmgt_core::{
    AttentionRequest, ChaChaNoise, ItemRows, MicroConditions, NoiseRequest, NoiseSource,
    ReferenceInput, Result, ScheduleRequest, StepInput, TextConditioning, TextRows, TokenGrid,
};

/// Inputs of each stage of one edit, computed in f32.
pub(super) struct Case {
    pub(super) request: EditRequest,
    /// The negative prompt, with guidance, and the instruction.
    pub(super) texts: Vec<String>,
    /// The photo as the codec reads it, `[1, 3, H, W]`.
    pub(super) picture: Tensor<4>,
    /// Its tokens.
    pub(super) reference: TokenGrid,
    /// Features of the texts.
    text: TextConditioning,
    /// The photo's tokens, masked as at the middle step.
    canvas: TokenGrid,
    timestep: f32,
    strength: f32,
    micro: MicroConditions,
    capture: AttentionRequest,
}

impl Case {
    /// `editor` computes in f32.
    pub(super) fn new(
        editor: &Editor,
        photo: &Photo,
        request: &EditRequest,
    ) -> std::result::Result<Self, EditError> {
        let model = editor.model();
        let settings = editor.settings(request)?;
        let plan =
            settings.resize.plan(photo.size(), None, settings.size, model.pixels_per_cell())?;
        let picture = plan.apply(photo, &model.device)?;
        let reference = model.codec.encode(picture.clone())?;

        let negative = (settings.guidance_scale > 1.0).then(|| settings.negative_prompt.clone());
        let texts: Vec<_> = negative.into_iter().chain([settings.instruction.clone()]).collect();
        let schedule = model
            .unmask_scheduler(&settings)
            .plan(&ScheduleRequest { steps: settings.steps, starting_mask_ratio: 1.0 })?;
        let step = settings.steps / 2;
        let masked = step.checked_sub(1).map_or(1.0, |before| schedule.mask_ratios[before]);
        let (spec, size) = (model.transformer.spec(), reference.size());
        let blocks =
            if settings.blocks.is_empty() { default_blocks(spec) } else { settings.blocks };
        let factor = model.codec.spec().downsample_factor;
        Ok(Self {
            text: encode(editor, &texts)?,
            canvas: canvas(&reference, masked, spec.mask_token, request, step)?,
            timestep: schedule.timesteps[step],
            strength: settings.reference_strength,
            micro: MicroConditions::uncropped(size.height * factor, size.width * factor),
            capture: AttentionRequest {
                blocks,
                items: vec![ItemRows { item: texts.len() - 1, rows: TextRows::All }],
            },
            request: request.clone(),
            texts,
            picture,
            reference,
        })
    }

    /// A pass of `editor`'s transformer.
    pub(super) fn pass(&self, editor: &Editor) -> Result<editmgt_core::StepOutput> {
        let batch = self.texts.len();
        let (tokens, reference) = (self.canvas.repeat(batch), self.reference.repeat(batch));
        let input = StepInput {
            tokens: &tokens,
            reference: Some(ReferenceInput { tokens: &reference, strength: self.strength }),
            text: &self.text,
            micro: &vec![self.micro; batch],
            timestep: &vec![self.timestep; batch],
        };
        editor.model().transformer.forward(&input, &self.capture)
    }
}

/// Features of the texts, one after the other.
pub(super) fn encode(editor: &Editor, texts: &[String]) -> Result<TextConditioning> {
    let encoder = &editor.model().text;
    let parts = texts.iter().map(|text| encoder.encode(&[text.as_str()]));
    let parts = parts.collect::<Result<Vec<_>>>()?;
    TextConditioning::cat(&parts.iter().collect::<Vec<_>>())
}

/// The photo's tokens masked at about this ratio, by the edit's own noise.
fn canvas(
    reference: &TokenGrid,
    masked: f32,
    mask_token: u32,
    request: &EditRequest,
    step: usize,
) -> Result<TokenGrid> {
    let noise = ChaChaNoise::new(request.seed).step_noise(&NoiseRequest {
        first_image: request.variation as usize,
        batch: 1,
        size: reference.size(),
        step,
    })?;
    let mut canvas = reference.clone();
    for (id, uniform) in canvas.ids_mut().iter_mut().zip(noise.confidence) {
        if uniform < masked {
            *id = mask_token;
        }
    }
    Ok(canvas)
}
