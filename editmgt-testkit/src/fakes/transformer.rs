use burn::tensor::{Device, Tensor, TensorData};
use editmgt_core::{
    AttentionMaps, AttentionRequest, MgtTransformer, Result, StepInput, StepOutput, TransformerSpec,
};

/// Fits [`ColourCodec`](super::ColourCodec) and [`WordEncoder`](super::WordEncoder).
const CODES: usize = 64;
/// The logit of the code that it is sure of.
const SURE: f32 = 8.0;

/// A transformer that copies the reference, but for the upper left quarter of the grid, where it
/// predicts the next code. Its attention is high there. Without a reference it predicts code 0.
#[derive(Debug, Clone)]
pub struct CopyTransformer {
    spec: TransformerSpec,
    device: Device,
}

impl CopyTransformer {
    /// A transformer whose logits live on `device`.
    pub fn new(device: &Device) -> Self {
        let spec = TransformerSpec {
            codebook_size: CODES,
            mask_token: CODES as u32,
            double_blocks: 1,
            single_blocks: 1,
            grid_factor: 1,
            text_size: 8,
            pooled_size: 8,
        };
        Self { spec, device: device.clone() }
    }
}

impl MgtTransformer for CopyTransformer {
    fn spec(&self) -> &TransformerSpec {
        &self.spec
    }

    fn forward(&self, input: &StepInput<'_>, request: &AttentionRequest) -> Result<StepOutput> {
        input.check(&self.spec)?;
        request.check(self.spec.blocks(), input.tokens.batch(), input.text.rows())?;
        let (batch, size) = (input.tokens.batch(), input.tokens.size());
        let edited = |position: usize| {
            position / size.width < size.height / 2 && position % size.width < size.width / 2
        };
        let mut logits = vec![0.0; batch * size.len() * CODES];
        for (i, row) in logits.chunks_mut(CODES).enumerate() {
            let copied = input.reference.and_then(|reference| reference.tokens.ids().get(i));
            let code = match copied {
                Some(&id) if edited(i % size.len()) => (id as usize + 1) % CODES,
                Some(&id) => id as usize % CODES,
                None => 0,
            };
            // A little less sure further down, so that confidences differ.
            row[code] = SURE - 1e-3 * i as f32;
        }
        let maps = if request.is_empty() {
            None
        } else {
            let high = 1.0 / size.len() as f32;
            let map = (0..size.len()).map(|i| if edited(i) { high } else { 0.1 * high });
            let map: Vec<f32> = map.collect();
            let items = request.items.len();
            let values = map.repeat(request.blocks.len() * items);
            Some(AttentionMaps::new(request.blocks.clone(), items, size, values)?)
        };
        let logits = TensorData::new(logits, [batch, size.len(), CODES]);
        Ok(StepOutput { logits: Tensor::from_data(logits, &self.device), maps })
    }
}
