use std::sync::{Arc, Mutex, PoisonError};

use editmgt_core::{Error, Result, Stage, TextConditioning, TokenGrid};

use super::composite::DecodedPhoto;
use super::{Stages, Text};
use crate::model::Model;
use crate::photo::ResizePlan;

/// What an edit computes before its loop and another edit can use again.
#[derive(Default)]
pub(crate) struct Features {
    texts: Arc<Recent<String, TextConditioning, 8>>,
    references: Recent<ResizePlan, TokenGrid, 4>,
    decoded: Recent<ResizePlan, DecodedPhoto, 4>,
}

impl Features {
    /// For another photo with the same texts.
    pub(super) fn of_another_photo(&self) -> Self {
        Self { texts: Arc::clone(&self.texts), ..Self::default() }
    }

    /// Features of a prompt and a negative prompt; encodes those that are not known.
    pub(super) fn encode(
        &self,
        model: &Model,
        prompt: &String,
        negative: Option<&String>,
        stages: &mut Stages<'_>,
    ) -> Result<Text> {
        let cache = self.texts();
        let texts: Vec<&String> = [prompt].into_iter().chain(negative).collect();
        let known: Vec<_> = texts.iter().map(|text| cache.get(text)).collect();
        let unknown = texts.iter().zip(&known).filter(|(_, features)| features.is_none());
        let unknown: Vec<&str> = unknown.map(|(text, _)| text.as_str()).collect();
        let encoded = if unknown.is_empty() {
            Vec::new()
        } else {
            stages.run(Stage::EncodeText, || model.text.encode_each(&unknown))?
        };
        if encoded.len() != unknown.len() {
            return Err(Error::shape("encoded prompts", unknown.len(), encoded.len()));
        }
        for (text, features) in unknown.iter().zip(&encoded) {
            cache.put((*text).to_owned(), features.clone());
        }
        let mut encoded = encoded.into_iter();
        let mut all = known.into_iter().filter_map(|known| known.or_else(|| encoded.next()));
        let instruction = all.next().expect("a text is known or was encoded");
        Ok((instruction, all.next()))
    }

    /// The texts' features, and the photo's tokens, each by what they are made of.
    pub(super) fn texts(&self) -> &Recent<String, TextConditioning, 8> {
        &self.texts
    }

    pub(super) fn references(&self) -> &Recent<ResizePlan, TokenGrid, 4> {
        &self.references
    }

    /// The photo's tokens decoded again.
    pub(super) fn decoded(&self) -> &Recent<ResizePlan, DecodedPhoto, 4> {
        &self.decoded
    }
}

/// The last `N` values that were made.
pub(super) struct Recent<K, V, const N: usize>(Mutex<Vec<(K, V)>>);

impl<K, V, const N: usize> Default for Recent<K, V, N> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<K: PartialEq, V: Clone, const N: usize> Recent<K, V, N> {
    pub(super) fn get(&self, key: &K) -> Option<V> {
        // A list that a panicking thread left is whole: it changes by whole entries.
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().find(|(other, _)| other == key).map(|(_, value)| value.clone())
    }

    /// The value of `key`, made by `make` where it is not known. Two threads may make it at once:
    /// the lock is not held meanwhile.
    pub(super) fn get_or_make(&self, key: K, make: impl FnOnce() -> Result<V>) -> Result<V> {
        if let Some(value) = self.get(&key) {
            return Ok(value);
        }
        let value = make()?;
        self.put(key, value.clone());
        Ok(value)
    }

    pub(super) fn put(&self, key: K, value: V) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|(other, _)| *other != key);
        if entries.len() == N {
            entries.remove(0);
        }
        entries.push((key, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_values_are_kept() {
        let recent = Recent::<u32, u32, 2>::default();
        let mut made = Vec::new();
        for key in [1, 1, 2, 1, 3, 2, 1] {
            let value = recent.get_or_make(key, || {
                made.push(key);
                Ok(10 * key)
            });
            assert_eq!(value.unwrap(), 10 * key);
        }
        assert_eq!(made, [1, 2, 3, 1]);
        let failed = recent.get_or_make(7, || Err(Error::value("text", "words", "none")));
        assert!(failed.is_err());
        assert_eq!(recent.get(&7), None);
    }
}
