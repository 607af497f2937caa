//! A model that reads the weights of a component when a stage needs them, and keeps one component
//! at a time.

use std::any::Any;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::Module;
use burn::tensor::Tensor;
use editmgt_core::{
    AttentionRequest, CodecSpec, Error, MgtTransformer, Result, StepInput, StepOutput,
    TextConditioning, TextEncoder, TextSpec, TokenGrid, TransformerSpec, Truncation, VqCodec,
};
use editmgt_text::{ClipEncoder, ClipGemma2Encoder, Gemma2, SmallTextEncoder};

use super::loaded::Model;
use super::stored::{Stored, StoredClip, StoredCodec, StoredModel, StoredText, StoredTransformer};
use crate::error::ModelError;
use crate::lora::apply_loras;

/// Room for one component, known by its type.
#[derive(Clone, Default)]
struct Room(Arc<Mutex<Option<Arc<dyn Any + Send + Sync>>>>);

impl Room {
    /// The component that is here if it is a `T`, else what `load` gives: it stays until another
    /// one is asked for.
    fn get<T: Send + Sync + 'static>(
        &self,
        load: impl FnOnce() -> Result<T, ModelError>,
    ) -> Result<Arc<T>, ModelError> {
        let mut room = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Ok(here)) = room.clone().map(Arc::downcast) {
            return Ok(here);
        }
        // The old one goes before the new one comes.
        *room = None;
        let loaded = Arc::new(load()?);
        *room = Some(loaded.clone());
        Ok(loaded)
    }
}

/// A stage whose weights are read when it computes.
struct OnDemand<T> {
    /// The stage without weights: what it is, in numbers.
    shell: T,
    load: Box<dyn Fn() -> Result<T, ModelError> + Send + Sync>,
    room: Room,
}

impl<T: Send + Sync + 'static> OnDemand<T> {
    /// A stage that `make` makes of the module in `stored`, which is as it is now when it is read.
    fn new<M: Module + Send + Sync + 'static>(
        room: &Room,
        shell: T,
        stored: Stored<M>,
        make: impl Fn(M) -> Result<T, ModelError> + Send + Sync + 'static,
    ) -> Result<Self, ModelError> {
        let known = stored.identity()?;
        let load = move || {
            let loaded = stored.load();
            // Afterwards, so that no change goes unnoticed, and whatever came of it.
            if stored.identity()? != known {
                return Err(ModelError::Changed { dir: stored.dir.clone() });
            }
            make(loaded?)
        };
        Ok(Self { shell, load: Box::new(load), room: room.clone() })
    }

    fn get(&self) -> Result<Arc<T>> {
        self.room.get(&self.load).map_err(Error::stage)
    }
}

impl<T: VqCodec + 'static> VqCodec for OnDemand<T> {
    fn spec(&self) -> &CodecSpec {
        self.shell.spec()
    }

    fn is_local(&self) -> bool {
        self.shell.is_local()
    }

    fn encode(&self, images: Tensor<4>) -> Result<TokenGrid> {
        self.get()?.encode(images)
    }

    fn decode(&self, tokens: &TokenGrid) -> Result<Tensor<4>> {
        self.get()?.decode(tokens)
    }

    fn decode_small(&self, tokens: &TokenGrid, shrink: usize) -> Result<Tensor<4>> {
        self.get()?.decode_small(tokens, shrink)
    }
}

impl<T: MgtTransformer + 'static> MgtTransformer for OnDemand<T> {
    fn spec(&self) -> &TransformerSpec {
        self.shell.spec()
    }

    fn forward(&self, input: &StepInput<'_>, request: &AttentionRequest) -> Result<StepOutput> {
        self.get()?.forward(input, request)
    }
}

impl<T: TextEncoder + 'static> TextEncoder for OnDemand<T> {
    fn spec(&self) -> TextSpec {
        self.shell.spec()
    }

    fn encode(&self, prompts: &[&str]) -> Result<TextConditioning> {
        self.get()?.encode(prompts)
    }

    fn spans(&self, prompt: &str, phrase: &str) -> Result<Vec<Range<usize>>> {
        self.shell.spans(prompt, phrase)
    }

    fn prompt_rows(&self, prompt: &str) -> Result<Range<usize>> {
        self.shell.prompt_rows(prompt)
    }

    fn truncation(&self, prompt: &str) -> Result<Vec<Truncation>> {
        self.shell.truncation(prompt)
    }
}

/// CLIP and Gemma2, one after the other.
struct ClipThenGemma2 {
    shell: ClipGemma2Encoder,
    clip: OnDemand<ClipEncoder>,
    gemma: OnDemand<Gemma2>,
}

impl TextEncoder for ClipThenGemma2 {
    fn spec(&self) -> TextSpec {
        self.shell.spec()
    }

    fn encode(&self, prompts: &[&str]) -> Result<TextConditioning> {
        let pooled = self.clip.encode(prompts)?.pooled;
        let ids = self.shell.tokenizer().encode(prompts)?;
        Ok(TextConditioning { hidden: self.gemma.get()?.forward(&ids)?, pooled })
    }

    fn encode_each(&self, prompts: &[&str]) -> Result<Vec<TextConditioning>> {
        let mut each = self.clip.encode_each(prompts)?;
        let gemma = self.gemma.get()?;
        for (features, prompt) in each.iter_mut().zip(prompts) {
            features.hidden = gemma.forward(&self.shell.tokenizer().encode(&[prompt])?)?;
        }
        Ok(each)
    }

    fn spans(&self, prompt: &str, phrase: &str) -> Result<Vec<Range<usize>>> {
        self.shell.spans(prompt, phrase)
    }

    fn prompt_rows(&self, prompt: &str) -> Result<Range<usize>> {
        self.shell.prompt_rows(prompt)
    }

    fn truncation(&self, prompt: &str) -> Result<Vec<Truncation>> {
        self.shell.truncation(prompt)
    }
}

impl StoredModel {
    /// A model whose stages share one [`Room`].
    pub(crate) fn on_demand(self) -> Result<Model, ModelError> {
        let Self { transformer, codec, text, rest } = self;
        let room = Room::default();
        let StoredTransformer { model, keys, loras } = transformer;
        let make = move |model| Ok(apply_loras(model, &keys, &loras)?);
        let transformer = OnDemand::new(&room, model.shell.clone(), model, make)?;
        rest.model(Box::new(transformer), codec.on_demand(&room)?, text.on_demand(&room)?)
    }
}

impl StoredCodec {
    fn on_demand(self, room: &Room) -> Result<Box<dyn VqCodec>, ModelError> {
        Ok(match self {
            Self::Official(codec) => {
                Box::new(OnDemand::new(room, codec.shell.clone(), *codec, Ok)?)
            }
            Self::Patch(codec) => Box::new(OnDemand::new(room, codec.shell.clone(), *codec, Ok)?),
        })
    }
}

impl StoredClip {
    fn on_demand(self, room: &Room) -> Result<OnDemand<ClipEncoder>, ModelError> {
        let Self { model, tokenizer } = self;
        let shell = ClipEncoder::new(model.shell.clone(), tokenizer.clone())?;
        let make = move |model| Ok(ClipEncoder::new(model, tokenizer.clone())?);
        OnDemand::new(room, shell, model, make)
    }
}

impl StoredText {
    fn on_demand(self, room: &Room) -> Result<Box<dyn TextEncoder>, ModelError> {
        Ok(match self {
            Self::Clip(clip) => Box::new(clip.on_demand(room)?),
            Self::ClipGemma2 { clip, gemma, tokenizer } => {
                let clip = clip.on_demand(room)?;
                let (clip_shell, gemma_shell) = (clip.shell.clone(), gemma.shell.clone());
                Box::new(ClipThenGemma2 {
                    shell: ClipGemma2Encoder::new(clip_shell, gemma_shell.clone(), tokenizer)?,
                    clip,
                    gemma: OnDemand::new(room, gemma_shell, *gemma, Ok)?,
                })
            }
            Self::Small(model, tokenizer) => {
                let shell = SmallTextEncoder::new(model.shell.clone(), tokenizer.clone())?;
                let make = move |model| Ok(SmallTextEncoder::new(model, tokenizer.clone())?);
                Box::new(OnDemand::new(room, shell, *model, make)?)
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
        let room = Room::default();
        let clip: Weak<Clip> = Arc::downgrade(&room.get(|| Ok(Clip)).unwrap());
        assert!(clip.upgrade().is_some(), "it stays for the next call");
        room.get::<Clip>(|| panic!("it is here")).unwrap();
        let codec = room.get(|| {
            assert!(clip.upgrade().is_none(), "it goes before another one comes");
            Ok(Codec)
        });
        let codec: Weak<Codec> = Arc::downgrade(&codec.unwrap());

        let failed = room.get(|| Err::<Clip, _>(ModelError::Changed { dir: "clip".into() }));
        assert!(failed.is_err());
        assert!(codec.upgrade().is_none());
        room.get(|| Ok(Clip)).unwrap();
    }

    #[test]
    fn a_component_in_use_outlives_its_turn() {
        let room = Room::default();
        let number = room.get(|| Ok(7u32)).unwrap();
        room.get(|| Ok("text")).unwrap();
        assert_eq!(*number, 7);
    }
}
