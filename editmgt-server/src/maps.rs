//! Attention that an edit or a look left, and the region that other limits would hold by it.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use editmgt::{
    AttentionConsolidator, AttentionMaps, CellScores, EditSettings, GridSize, HoldRequest,
    KeywordPolicy, LoopStep, ResizePlan, TextEncoder, UserMask, content_words,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::ApiError;

/// Attention of the first and the last step that were run.
#[derive(Debug, Clone)]
pub(crate) struct StepMaps {
    first: AttentionMaps,
    last: AttentionMaps,
}

impl StepMaps {
    /// Takes the attention of a step into account.
    pub(crate) fn record(maps: &mut Option<Self>, step: LoopStep) {
        let Some(attention) = step.maps else { return };
        match maps {
            Some(maps) => maps.last = attention,
            None => *maps = Some(Self { first: attention.clone(), last: attention }),
        }
    }

    fn bytes(&self) -> usize {
        [&self.first, &self.last]
            .map(|maps| size_of::<f32>() * maps.blocks().len() * maps.items() * maps.size().len())
            .iter()
            .sum()
    }
}

/// A word or phrase of the instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    /// Text rows that it fills.
    pub(crate) rows: usize,
}

/// The words of an instruction of which a look makes maps: each content word once, without those
/// that the encoder cut off.
///
/// # Errors
/// Those of the encoder.
pub(crate) fn words_of(
    encoder: &dyn TextEncoder,
    instruction: &str,
) -> Result<Vec<Word>, ApiError> {
    let mut seen = HashSet::new();
    let words =
        content_words(instruction).into_iter().filter(|word| seen.insert(word.to_lowercase()));
    measured(encoder, instruction, words)
}

fn measured<'a>(
    encoder: &dyn TextEncoder,
    instruction: &str,
    words: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<Word>, ApiError> {
    let mut found = Vec::new();
    for text in words {
        match encoder.spans(instruction, text) {
            Ok(spans) => {
                let rows = spans.iter().map(ExactSizeIterator::len).sum();
                found.push(Word { text: text.to_owned(), rows });
            }
            Err(editmgt::Error::PhraseNotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found.into_iter().filter(|word| word.rows > 0).collect())
}

/// What an edit keeps for maps.
#[derive(Debug)]
pub(crate) struct KeptMaps {
    /// By the edit's own keyword.
    own: StepMaps,
    keyword: KeywordPolicy,
    /// A map for each of these words.
    words: Vec<Word>,
    of_words: Option<StepMaps>,
    completed: usize,
}

impl KeptMaps {
    /// Of an edit, by its keyword.
    ///
    /// # Errors
    /// Those of the encoder.
    pub(crate) fn of_edit(
        own: StepMaps,
        settings: &EditSettings,
        completed: usize,
        encoder: &dyn TextEncoder,
    ) -> Result<Self, ApiError> {
        let keyword = settings.keyword.clone();
        let words = match &keyword {
            KeywordPolicy::Phrases(phrases) => {
                measured(encoder, &settings.instruction, phrases.iter().map(String::as_str))?
            }
            _ => Vec::new(),
        };
        let words = if words.len() == own.last.items() { words } else { Vec::new() };
        let of_words = (!words.is_empty()).then(|| own.clone());
        Ok(Self { own, keyword, words, of_words, completed })
    }

    /// With a map for each word.
    pub(crate) fn with_words(self, words: Vec<Word>, of_words: StepMaps) -> Self {
        Self { words, of_words: Some(of_words), ..self }
    }

    pub(crate) fn words(&self) -> Vec<String> {
        self.words.iter().map(|word| word.text.clone()).collect()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.own.bytes() + self.of_words.as_ref().map_or(0, StepMaps::bytes)
    }

    /// The maps by a keyword.
    fn by(&self, settings: &EditSettings, encoder: &dyn TextEncoder) -> Result<StepMaps, ApiError> {
        let keyword = &settings.keyword;
        if *keyword == self.keyword {
            return Ok(self.own.clone());
        }
        let instruction = &settings.instruction;
        let no_maps = |what: &str| {
            let message = format!("no map of {what} is kept: a look makes it");
            ApiError::conflict("no_maps", message).param("keyword")
        };
        let (groups, maps) = match (keyword, &self.of_words) {
            (KeywordPolicy::Phrases(phrases), Some(maps)) => {
                let mut groups = Vec::with_capacity(phrases.len());
                for phrase in phrases {
                    let group = self.group(phrase, instruction, encoder)?;
                    groups.push(group.ok_or_else(|| no_maps(&format!("{phrase:?}")))?);
                }
                (groups, maps)
            }
            (KeywordPolicy::Auto, Some(maps)) => {
                let wanted = words_of(encoder, instruction)?;
                let all: Option<Vec<_>> =
                    wanted.iter().map(|word| self.index(&word.text)).collect();
                let all = all.filter(|all| !all.is_empty());
                (vec![all.ok_or_else(|| no_maps("all content words"))?], maps)
            }
            (keyword, _) => return Err(no_maps(&format!("the keyword {keyword}"))),
        };
        let of = |maps: &AttentionMaps| self.combined(maps, &groups);
        Ok(StepMaps { first: of(&maps.first)?, last: of(&maps.last)? })
    }

    fn index(&self, text: &str) -> Option<usize> {
        self.words.iter().position(|word| word.text.to_lowercase() == text.to_lowercase())
    }

    /// The kept words that a phrase consists of; `None` where one is missing.
    fn group(
        &self,
        phrase: &str,
        instruction: &str,
        encoder: &dyn TextEncoder,
    ) -> Result<Option<Vec<usize>>, ApiError> {
        if let Some(index) = self.index(phrase) {
            return Ok(Some(vec![index]));
        }
        let spans = encoder.spans(instruction, phrase)?;
        let rows: usize = spans.iter().map(ExactSizeIterator::len).sum();
        let words: Option<Vec<_>> =
            phrase.split_whitespace().map(|word| self.index(word)).collect();
        // A word that stands elsewhere, too, has rows that the phrase has not.
        Ok(words.filter(|all| all.iter().map(|&word| self.words[word].rows).sum::<usize>() == rows))
    }

    /// One map for each group of words: the mean over their text rows, as the transformer averages
    /// them.
    fn combined(
        &self,
        maps: &AttentionMaps,
        groups: &[Vec<usize>],
    ) -> Result<AttentionMaps, ApiError> {
        let mut values = Vec::with_capacity(maps.blocks().len() * groups.len() * maps.size().len());
        for layer in 0..maps.blocks().len() {
            for group in groups {
                let rows: usize = group.iter().map(|&word| self.words[word].rows).sum();
                let mut mean = vec![0.0; maps.size().len()];
                for &word in group {
                    let weight = self.words[word].rows as f32 / rows as f32;
                    for (sum, value) in mean.iter_mut().zip(maps.map(layer, word)) {
                        *sum += weight * value;
                    }
                }
                values.extend(mean);
            }
        }
        Ok(AttentionMaps::new(maps.blocks().to_vec(), groups.len(), maps.size(), values)?)
    }

    /// Which tokens `settings` would hold.
    ///
    /// # Errors
    /// Status 409 where the maps of the keyword are not kept.
    pub(crate) fn region(
        &self,
        settings: &EditSettings,
        mask: Option<&UserMask>,
        grid: GridSize,
        encoder: &dyn TextEncoder,
    ) -> Result<Region, ApiError> {
        let maps = self.by(settings, encoder)?;
        let consolidator = settings.map_filter.stage();
        let count = maps.last.items();
        let scores = |maps: &AttentionMaps, size| -> Result<_, editmgt::Error> {
            let scores = consolidator.consolidate(maps, size)?;
            if count == 1 { Ok(scores) } else { scores.combine(count, settings.keyword_maps) }
        };
        let (first, last) = (scores(&maps.first, grid)?, scores(&maps.last, grid)?);
        let (first_cells, last_cells) =
            (scores(&maps.first, maps.first.size())?, scores(&maps.last, maps.last.size())?);
        let request = HoldRequest {
            scores: &last,
            first: &first,
            mask,
            step: self.completed.saturating_sub(1),
            cells: Some(CellScores { scores: &last_cells, first: &first_cells }),
        };
        let stage = settings.hold.stage(settings.hold_margin)?;
        let held = stage.hold(&request)?;
        let stats = last.stats(0);
        let byte = |score: &f32| (score * 255.0).round().clamp(0.0, 255.0) as u8;
        Ok(Region {
            scores: STANDARD.encode(last.image(0).iter().map(byte).collect::<Vec<_>>()),
            held: STANDARD
                .encode(held.held().iter().map(|&held| u8::from(held)).collect::<Vec<_>>()),
            hold: settings.hold.to_string(),
            threshold: stage.threshold(&request, 0),
            tokens_held: held.share(),
            min: stats.min,
            max: stats.max,
            mean: stats.mean,
        })
    }
}

/// Scores and held tokens.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Region {
    /// Base64 of a byte for each token: the score times 255.
    scores: String,
    /// Base64 of a byte for each token: 1 is held.
    held: String,
    hold: String,
    /// The score below which tokens are held.
    threshold: Option<f32>,
    tokens_held: f32,
    min: f32,
    max: f32,
    mean: f32,
}

/// The rectangle of the photo, in its pixels, that the whole token grid covers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub(crate) struct Area {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

impl Area {
    pub(crate) fn of(plan: &ResizePlan) -> Self {
        let (area, place, model) = (plan.area(), plan.place(), plan.model());
        let across = area.size.width as f64 / place.size.width as f64;
        let down = area.size.height as f64 / place.size.height as f64;
        Self {
            left: area.left as f64 - place.left as f64 * across,
            top: area.top as f64 - place.top as f64 * down,
            width: model.width as f64 * across,
            height: model.height as f64 * down,
        }
    }
}

#[cfg(test)]
mod tests {
    use editmgt::PixelSize;

    use super::*;

    #[test]
    fn area_is_the_photo_where_it_fits_and_reaches_out_where_it_is_padded() {
        let fit = ResizePlan::fit(PixelSize::new(40, 80), 64, 8).unwrap();
        assert_eq!(Area::of(&fit), Area { left: 0.0, top: 0.0, width: 80.0, height: 40.0 });
        let pad = ResizePlan::pad(PixelSize::new(30, 100), 64, 32).unwrap();
        let area = Area::of(&pad);
        assert!(area.left < 0.0 || area.top < 0.0, "{area:?}");
        assert!(area.width * area.height > 30.0 * 100.0, "{area:?}");
    }

    #[test]
    fn maps_of_words_become_that_of_their_phrase() {
        let maps = |values: Vec<f32>, items| {
            AttentionMaps::new(vec![3], items, GridSize::new(1, 2), values).unwrap()
        };
        let words = maps(vec![0.0, 1.0, 0.6, 0.3], 2);
        let both = StepMaps { first: words.clone(), last: words.clone() };
        let own = maps(vec![0.5, 0.5], 1);
        let kept = KeptMaps {
            own: StepMaps { first: own.clone(), last: own },
            keyword: KeywordPolicy::All,
            words: vec![
                Word { text: "red".into(), rows: 1 },
                Word { text: "octagon".into(), rows: 2 },
            ],
            of_words: Some(both),
            completed: 1,
        };
        let combined = kept.combined(&words, &[vec![1], vec![0, 1]]).unwrap();
        assert_eq!(combined.map(0, 0), [0.6, 0.3]);
        for (got, expected) in combined.map(0, 1).iter().zip([0.4, 1.6 / 3.0]) {
            // Two products and a sum of numbers of about 1.
            assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        }
    }
}
