//! A transformer that counts the forward passes of another one, to see what options cost:
//! `cargo run -p editmgt-examples --example custom_transformer -- [PHOTO INSTRUCTION OUT]`
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use editmgt::{
    AttentionRequest, EditRequest, Editor, Error, GridSize, LoadOptions, MgtTransformer, Model,
    Photo, StepInput, StepOutput, TransformerSpec,
};

pub(crate) struct Counting {
    transformer: Box<dyn MgtTransformer>,
    passes: AtomicUsize,
    /// Images of all passes; guidance doubles them.
    images: AtomicUsize,
}

impl Counting {
    pub(crate) fn new(transformer: Box<dyn MgtTransformer>) -> Self {
        Self { transformer, passes: AtomicUsize::default(), images: AtomicUsize::default() }
    }
}

impl MgtTransformer for Counting {
    fn spec(&self) -> &TransformerSpec {
        self.transformer.spec()
    }

    // The counters change no result: what a pass computes depends on its arguments only.
    fn forward(
        &self,
        input: &StepInput<'_>,
        request: &AttentionRequest,
    ) -> Result<StepOutput, Error> {
        self.passes.fetch_add(1, Ordering::Relaxed);
        self.images.fetch_add(input.tokens.batch(), Ordering::Relaxed);
        self.transformer.forward(input, request)
    }

    fn inner_grid(&self, tokens: GridSize) -> GridSize {
        self.transformer.inner_grid(tokens)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [photo, instruction, out] = editmgt_examples::arguments("make the red car blue")?;
    let model = Model::embedded(&LoadOptions::for_device(editmgt::open_default_device()?)?, &[])?;
    // Shared, so that it can be asked afterwards.
    let counting = Arc::new(Counting::new(model.transformer));
    let editor = Editor::embedded().transformer(counting.clone()).build()?;
    let request = EditRequest::new(instruction).steps(4).guidance_scale(3.0);
    let result = editor.edit(&Photo::open(photo)?, request)?;
    let [passes, images] =
        [&counting.passes, &counting.images].map(|counter| counter.load(Ordering::Relaxed));
    println!("{passes} forward passes over {images} images");
    Ok(result.image.save(out)?)
}
