//! A consolidator that takes the maximum over layers, so that a region that one layer alone looks
//! at may be edited, too: `cargo run -p editmgt-examples --example custom_consolidator -- [PHOTO
//! INSTRUCTION OUT]`
#![forbid(unsafe_code)]

use editmgt::{
    AttentionConsolidator, AttentionMaps, EditRequest, Editor, Error, GridSize, Photo, ScoreMap,
};

pub(crate) struct MaxOverLayers;

impl AttentionConsolidator for MaxOverLayers {
    fn consolidate(&self, maps: &AttentionMaps, target: GridSize) -> Result<ScoreMap, Error> {
        let cells = maps.size();
        if maps.blocks().is_empty() || cells.is_empty() {
            return Err(Error::shape("attention maps", "at least one layer and cell", "none"));
        }
        let mut scores = Vec::with_capacity(maps.items() * target.len());
        for item in 0..maps.items() {
            let mut highest = vec![0.0f32; cells.len()];
            for layer in 0..maps.blocks().len() {
                let map = maps.map(layer, item);
                if let Some(value) = map.iter().find(|value| !value.is_finite()) {
                    return Err(Error::value("attention", "a finite number", value));
                }
                // Each layer relative to its own peak: layers differ in scale.
                let peak = map.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
                highest
                    .iter_mut()
                    .zip(map)
                    .for_each(|(high, value)| *high = high.max(value / peak));
            }
            // The nearest cell for each token.
            scores.extend((0..target.len()).map(|i| {
                let row = i / target.width * cells.height / target.height;
                let column = i % target.width * cells.width / target.width;
                highest[row * cells.width + column]
            }));
        }
        ScoreMap::new(maps.items(), target, scores)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [photo, instruction, out] = editmgt_examples::arguments("make the red car blue")?;
    let photo = Photo::open(photo)?;
    let editor = Editor::embedded().consolidator(MaxOverLayers).build()?;
    let result = editor.edit(&photo, EditRequest::new(instruction).score_map(true))?;
    // Scores and held tokens over the photo.
    Ok(result.overlay(&photo)?.save(out)?)
}
