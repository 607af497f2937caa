//! Models that load a component's weights on demand and keep one component at a time.

use std::any::Any;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::Module;
use burn::tensor::Tensor;
use editmgt_core::{
    ActiveRows, AttentionRequest, CodecSpec, Error, GridSize, MgtTransformer, Result, StepCache,
    StepInput, StepOutput, TextConditioning, TextEncoder, TextSpec, Tiling, TokenGrid,
    TransformerSpec, Truncation, VqCodec,
};
use editmgt_text::{ClipEncoder, ClipGemma2Encoder, Gemma2, SmallTextEncoder};

use super::base::LoraFiles;
use super::decoder::with_decoder;
use super::loaded::Model;
use super::stored::{
    Part, Stored, StoredClip, StoredCodec, StoredModel, StoredText, StoredTransformer,
};
use crate::error::ModelError;
use crate::lora::apply_loras;

/// Single-slot cache for one component, by type.
#[derive(Clone, Default)]
struct ComponentSlot(Arc<Mutex<Option<Arc<dyn Any + Send + Sync>>>>);

impl ComponentSlot {
    /// Returns the cached component if it is a `T`, else the result of `load`, which replaces it.
    fn get<T: Send + Sync + 'static>(
        &self,
        load: impl FnOnce() -> Result<T, ModelError>,
    ) -> Result<Arc<T>, ModelError> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Ok(here)) = slot.clone().map(Arc::downcast) {
            return Ok(here);
        }
        // Evict before loading.
        *slot = None;
        let loaded = Arc::new(load()?);
        *slot = Some(loaded.clone());
        Ok(loaded)
    }
}

/// A stage that loads its weights when it computes.
struct OnDemand<T> {
    /// The stage without weights, for its spec.
    unloaded: T,
    load: Box<dyn Fn() -> Result<T, ModelError> + Send + Sync>,
    slot: ComponentSlot,
}

impl<T: Send + Sync + 'static> OnDemand<T> {
    /// A stage built by `make` from the module in `stored`, whose identity is recorded now.
    fn new<M: Module + Send + Sync + 'static>(
        slot: &ComponentSlot,
        unloaded: T,
        stored: Stored<M>,
        make: impl Fn(M) -> Result<T, ModelError> + Send + Sync + 'static,
    ) -> Result<Self, ModelError> {
        Self::of_part(slot, unloaded, Arc::new(stored), |_| true, make)
    }

    /// [`new`](Self::new) with those weights alone whose path in the module is `wanted`.
    fn of_part<M: Module + Send + Sync + 'static>(
        slot: &ComponentSlot,
        unloaded: T,
        stored: Arc<Stored<M>>,
        wanted: impl Fn(&str) -> bool + Send + Sync + 'static,
        make: impl Fn(M) -> Result<T, ModelError> + Send + Sync + 'static,
    ) -> Result<Self, ModelError> {
        let known = stored.identity()?;
        let load = move || {
            let loaded = stored.load_part(&wanted);
            // Checked after loading, even a failed one, so that no change goes unnoticed.
            if stored.identity()? != known {
                return Err(ModelError::Changed { dir: stored.dir.clone() });
            }
            make(loaded?)
        };
        Ok(Self { unloaded, load: Box::new(load), slot: slot.clone() })
    }

    fn get(&self) -> Result<Arc<T>> {
        self.slot.get(&self.load).map_err(Error::stage)
    }
}

/// A codec without the weights of its decoder.
struct Encoding<C>(C);

/// A codec without the weights of its encoder.
struct Decoding<C>(C);

/// A codec of which one half is loaded at a time: that which computes.
struct CodecOnDemand<C> {
    encoding: OnDemand<Encoding<C>>,
    decoding: OnDemand<Decoding<C>>,
}

impl<C: VqCodec + Module + Sync + 'static> CodecOnDemand<C> {
    fn new(slot: &ComponentSlot, stored: Stored<C>) -> Result<Self, ModelError> {
        let stored = Arc::new(stored);
        let (encoding, decoding) =
            (Encoding(stored.unloaded.clone()), Decoding(stored.unloaded.clone()));
        let no_decoder = |path: &str| !path.starts_with("decoder.");
        let no_encoder = |path: &str| !path.starts_with("encoder.");
        Ok(Self {
            encoding: OnDemand::of_part(slot, encoding, stored.clone(), no_decoder, |codec| {
                Ok(Encoding(codec))
            })?,
            decoding: OnDemand::of_part(slot, decoding, stored, no_encoder, |codec| {
                Ok(Decoding(codec))
            })?,
        })
    }

    fn unloaded(&self) -> &C {
        &self.encoding.unloaded.0
    }
}

impl<C: VqCodec + Module + Sync + 'static> VqCodec for CodecOnDemand<C> {
    fn spec(&self) -> &CodecSpec {
        self.unloaded().spec()
    }

    fn is_local(&self) -> bool {
        self.unloaded().is_local()
    }

    fn encode(&self, images: Tensor<4>) -> Result<TokenGrid> {
        self.encoding.get()?.0.encode(images)
    }

    fn decode(&self, tokens: &TokenGrid) -> Result<Tensor<4>> {
        self.decoding.get()?.0.decode(tokens)
    }

    fn decode_small(&self, tokens: &TokenGrid, shrink: usize) -> Result<Tensor<4>> {
        self.decoding.get()?.0.decode_small(tokens, shrink)
    }

    fn tile_side(&self, grid: GridSize, tiling: Tiling) -> Option<usize> {
        self.unloaded().tile_side(grid, tiling)
    }

    fn encode_tiled(&self, images: Tensor<4>, side: usize) -> Result<TokenGrid> {
        self.encoding.get()?.0.encode_tiled(images, side)
    }

    fn decode_tiled(&self, tokens: &TokenGrid, side: usize) -> Result<Tensor<4>> {
        self.decoding.get()?.0.decode_tiled(tokens, side)
    }
}

impl<T: MgtTransformer + 'static> MgtTransformer for OnDemand<T> {
    fn spec(&self) -> &TransformerSpec {
        self.unloaded.spec()
    }

    fn forward(&self, input: &StepInput<'_>, request: &AttentionRequest) -> Result<StepOutput> {
        self.get()?.forward(input, request)
    }

    fn caches_steps(&self) -> bool {
        self.unloaded.caches_steps()
    }

    fn forward_cached(
        &self,
        input: &StepInput<'_>,
        request: &AttentionRequest,
        cache: &mut StepCache,
        active: Option<&ActiveRows>,
    ) -> Result<StepOutput> {
        self.get()?.forward_cached(input, request, cache, active)
    }

    fn takes_reference(&self) -> bool {
        self.unloaded.takes_reference()
    }
}

impl<T: TextEncoder + 'static> TextEncoder for OnDemand<T> {
    fn spec(&self) -> TextSpec {
        self.unloaded.spec()
    }

    fn encode(&self, prompts: &[&str]) -> Result<TextConditioning> {
        self.get()?.encode(prompts)
    }

    fn spans(&self, prompt: &str, phrase: &str) -> Result<Vec<Range<usize>>> {
        self.unloaded.spans(prompt, phrase)
    }

    fn prompt_rows(&self, prompt: &str) -> Result<Range<usize>> {
        self.unloaded.prompt_rows(prompt)
    }

    fn truncation(&self, prompt: &str) -> Result<Vec<Truncation>> {
        self.unloaded.truncation(prompt)
    }
}

/// CLIP and Gemma2, one after the other.
struct ClipThenGemma2 {
    unloaded: ClipGemma2Encoder,
    clip: OnDemand<ClipEncoder>,
    gemma: OnDemand<Gemma2>,
}

impl TextEncoder for ClipThenGemma2 {
    fn spec(&self) -> TextSpec {
        self.unloaded.spec()
    }

    fn encode(&self, prompts: &[&str]) -> Result<TextConditioning> {
        let pooled = self.clip.encode(prompts)?.pooled;
        let ids = self.unloaded.tokenizer().encode(prompts)?;
        Ok(TextConditioning { hidden: self.gemma.get()?.forward(&ids)?, pooled })
    }

    fn encode_each(&self, prompts: &[&str]) -> Result<Vec<TextConditioning>> {
        let mut each = self.clip.encode_each(prompts)?;
        let gemma = self.gemma.get()?;
        for (features, prompt) in each.iter_mut().zip(prompts) {
            features.hidden = gemma.forward(&self.unloaded.tokenizer().encode(&[prompt])?)?;
        }
        Ok(each)
    }

    fn spans(&self, prompt: &str, phrase: &str) -> Result<Vec<Range<usize>>> {
        self.unloaded.spans(prompt, phrase)
    }

    fn prompt_rows(&self, prompt: &str) -> Result<Range<usize>> {
        self.unloaded.prompt_rows(prompt)
    }

    fn truncation(&self, prompt: &str) -> Result<Vec<Truncation>> {
        self.unloaded.truncation(prompt)
    }
}

impl StoredModel {
    /// A model whose stages share one [`ComponentSlot`]; parts of the user's own stay as they are.
    pub(crate) fn on_demand(self, loras: LoraFiles) -> Result<Model, ModelError> {
        let Self { transformer, codec, text, metadata } = self;
        let slot = ComponentSlot::default();
        let codec = match codec {
            Part::Stored(codec) => codec.on_demand(&slot)?,
            Part::Own(codec) => Box::new(codec),
        };
        let text = match text {
            Part::Stored(text) => text.on_demand(&slot)?,
            Part::Own(text) => Box::new(text),
        };
        let source = metadata.source(&loras)?;
        let transformer: Box<dyn MgtTransformer> = match transformer {
            Part::Stored(StoredTransformer::Meissonic { model, keys }) => {
                let make = move |model| Ok(apply_loras(model, &keys, &loras)?);
                Box::new(OnDemand::new(&slot, model.unloaded.clone(), *model, make)?)
            }
            Part::Stored(StoredTransformer::Amused(model)) => {
                Box::new(OnDemand::new(&slot, model.unloaded.clone(), *model, Ok)?)
            }
            Part::Own(transformer) => Box::new(transformer),
        };
        metadata.model(transformer, codec, text, source)
    }
}

impl StoredCodec {
    fn on_demand(self, slot: &ComponentSlot) -> Result<Box<dyn VqCodec>, ModelError> {
        Ok(match self {
            Self::Official(codec) => {
                let operands = codec.operands();
                with_decoder(CodecOnDemand::new(slot, *codec)?, operands)
            }
            Self::Patch(codec) => {
                let operands = codec.operands();
                with_decoder(CodecOnDemand::new(slot, *codec)?, operands)
            }
        })
    }
}

impl StoredClip {
    fn on_demand(self, slot: &ComponentSlot) -> Result<OnDemand<ClipEncoder>, ModelError> {
        let Self { model, tokenizer } = self;
        let unloaded = ClipEncoder::new(model.unloaded.clone(), tokenizer.clone())?;
        let make = move |model| Ok(ClipEncoder::new(model, tokenizer.clone())?);
        OnDemand::new(slot, unloaded, model, make)
    }
}

impl StoredText {
    fn on_demand(self, slot: &ComponentSlot) -> Result<Box<dyn TextEncoder>, ModelError> {
        Ok(match self {
            Self::Clip(clip) => Box::new(clip.on_demand(slot)?),
            Self::ClipGemma2 { clip, gemma, tokenizer } => {
                let clip = clip.on_demand(slot)?;
                let (unloaded_clip, unloaded_gemma) =
                    (clip.unloaded.clone(), gemma.unloaded.clone());
                Box::new(ClipThenGemma2 {
                    unloaded: ClipGemma2Encoder::new(
                        unloaded_clip,
                        unloaded_gemma.clone(),
                        tokenizer,
                    )?,
                    clip,
                    gemma: OnDemand::new(slot, unloaded_gemma, *gemma, Ok)?,
                })
            }
            Self::Small(model, tokenizer) => {
                let unloaded = SmallTextEncoder::new(model.unloaded.clone(), tokenizer.clone())?;
                let make = move |model| Ok(SmallTextEncoder::new(model, tokenizer.clone())?);
                Box::new(OnDemand::new(slot, unloaded, *model, make)?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::*;

    #[test]
    fn one_component_at_a_time() {
        struct Clip;
        struct Codec;
        let slot = ComponentSlot::default();
        let clip: Weak<Clip> = Arc::downgrade(&slot.get(|| Ok(Clip)).unwrap());
        assert!(clip.upgrade().is_some(), "it stays for the next call");
        slot.get::<Clip>(|| panic!("it is here")).unwrap();
        let codec = slot.get(|| {
            assert!(clip.upgrade().is_none(), "it goes before another one comes");
            Ok(Codec)
        });
        let codec: Weak<Codec> = Arc::downgrade(&codec.unwrap());

        let failed = slot.get(|| Err::<Clip, _>(ModelError::Changed { dir: "clip".into() }));
        assert!(failed.is_err());
        assert!(codec.upgrade().is_none());
        slot.get(|| Ok(Clip)).unwrap();
    }

    #[test]
    fn a_component_in_use_outlives_its_turn() {
        let slot = ComponentSlot::default();
        let number = slot.get(|| Ok(7u32)).unwrap();
        slot.get(|| Ok("text")).unwrap();
        assert_eq!(*number, 7);
    }
}
