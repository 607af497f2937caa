//! A codec with global norms, simulated on a local one.
//!
//! In such a codec the mean and the variance of the whole image enter every token and every pixel.
//! With any edit, tokens far from it come out as others that look nearly the same, and the decoded
//! pixels drift. Two wrappers do that: [`DriftingCodec`] adds the drift to what is decoded, and
//! [`SynonymTransformer`] predicts other codes for half of the positions.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use editmgt::burn::tensor::{DType, Device, Int, Tensor, TensorData};
use editmgt::{
    AttentionRequest, CodecSpec, Error, GridSize, MgtTransformer, ReferenceInput, StepInput,
    StepOutput, TokenGrid, TransformerSpec, VqCodec,
};

/// Largest mean difference of two codes' patches, levels of 255, that are near-synonyms.
const SYNONYMS: f32 = 8.0;

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// A codec whose decoded image drifts by a slow wave in each channel. Phase and direction depend
/// on all of the tokens, so that no two token grids have the same.
pub(crate) struct DriftingCodec {
    pub(crate) codec: Box<dyn VqCodec>,
    /// Height of the waves, levels of 255.
    pub(crate) amplitude: f32,
    pub(crate) local: bool,
    pub(crate) device: Device,
}

impl VqCodec for DriftingCodec {
    fn spec(&self) -> &CodecSpec {
        self.codec.spec()
    }

    fn is_local(&self) -> bool {
        self.local
    }

    fn encode(&self, images: Tensor<4>) -> Result<TokenGrid, Error> {
        self.codec.encode(images)
    }

    fn decode(&self, tokens: &TokenGrid) -> Result<Tensor<4>, Error> {
        let decoded = self.codec.decode(tokens)?;
        let [batch, channels, height, width] = decoded.dims();
        let mut drift = Vec::with_capacity(batch * channels * height * width);
        for image in 0..batch {
            for channel in 0..channels {
                let seed = hash((tokens.image(image), channel));
                let part = |shift: u32| (seed >> shift & 0xffff) as f32 / 65536.0;
                let (phase, down, across) = (part(0), 2.0 * part(16) - 1.0, 2.0 * part(32) - 1.0);
                for y in 0..height {
                    for x in 0..width {
                        let place =
                            down * y as f32 / height as f32 + across * x as f32 / width as f32;
                        let turn = std::f32::consts::TAU * (phase + place);
                        drift.push(self.amplitude / 255.0 * turn.sin());
                    }
                }
            }
        }
        let drift = TensorData::new(drift, [batch, channels, height, width]);
        let drift = Tensor::from_data(drift, (&self.device, DType::F32));
        Ok((decoded + drift).clamp(0.0, 1.0))
    }
}

/// For each code the one that looks most like it, and for that one this code; itself where there
/// is none within [`SYNONYMS`].
///
/// # Errors
/// Those of the codec.
pub(crate) fn synonyms(codec: &dyn VqCodec) -> Result<Vec<u32>, Error> {
    let codes = codec.spec().codebook_size;
    let all = TokenGrid::new(codes, GridSize::new(1, 1), (0..codes as u32).collect())?;
    let patches = codec.decode(&all)?.into_data().convert::<f32>();
    let values = patches.as_slice::<f32>().expect("converted to f32");
    let patches: Vec<&[f32]> = values.chunks(values.len() / codes).collect();
    let mut pairs = Vec::new();
    for a in 0..codes {
        for b in 0..a {
            let sum: f32 = patches[a].iter().zip(patches[b]).map(|(x, y)| (x - y).abs()).sum();
            let mean = 255.0 * sum / patches[a].len() as f32;
            if mean <= SYNONYMS {
                pairs.push((mean, a, b));
            }
        }
    }
    pairs.sort_by(|x, y| x.0.total_cmp(&y.0));
    let mut synonyms: Vec<u32> = (0..codes as u32).collect();
    for (_, a, b) in pairs {
        if synonyms[a] as usize == a && synonyms[b] as usize == b {
            (synonyms[a], synonyms[b]) = (b as u32, a as u32);
        }
    }
    Ok(synonyms)
}

/// A transformer that predicts near-synonyms at half of the positions. It sees its own tokens
/// there, so that it edits as before.
pub(crate) struct SynonymTransformer {
    pub(crate) transformer: Box<dyn MgtTransformer>,
    /// See [`synonyms`].
    pub(crate) synonyms: Arc<[u32]>,
    pub(crate) device: Device,
}

impl SynonymTransformer {
    /// Whether this position of an image with this reference predicts synonyms.
    fn flips(reference: &[u32], position: usize) -> bool {
        hash((reference, position)).is_multiple_of(2)
    }
}

impl MgtTransformer for SynonymTransformer {
    fn spec(&self) -> &TransformerSpec {
        self.transformer.spec()
    }

    fn forward(
        &self,
        input: &StepInput<'_>,
        request: &AttentionRequest,
    ) -> Result<StepOutput, Error> {
        let Some(ReferenceInput { tokens: reference, .. }) = input.reference else {
            return self.transformer.forward(input, request);
        };
        let mask_token = self.spec().mask_token;
        let mut tokens = input.tokens.clone();
        let (images, positions) = (tokens.batch(), tokens.size().len());
        let codes = self.synonyms.len();
        let mut order = Vec::with_capacity(images * positions * codes);
        for image in 0..images {
            let own = reference.image(image);
            for position in 0..positions {
                if !Self::flips(own, position) {
                    order.extend(0..codes as i32);
                    continue;
                }
                order.extend(self.synonyms.iter().map(|&id| id as i32));
                let id = &mut tokens.ids_mut()[image * positions + position];
                // The photo's own token was held.
                if *id != mask_token && *id != own[position] {
                    *id = self.synonyms[*id as usize];
                }
            }
        }
        let seen = StepInput { tokens: &tokens, ..*input };
        let output = self.transformer.forward(&seen, request)?;
        let order = TensorData::new(order, [images, positions, codes]);
        let order = Tensor::<3, Int>::from_data(order, &self.device);
        Ok(StepOutput { logits: output.logits.gather(2, order), ..output })
    }

    fn inner_grid(&self, tokens: GridSize) -> GridSize {
        self.transformer.inner_grid(tokens)
    }
}
