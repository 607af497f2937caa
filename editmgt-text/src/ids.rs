use burn::tensor::{Device, Int, Tensor, TensorData};
use editmgt_core::{Error, Result};

/// Token ids of a batch of prompts, each padded to the same length: `[B, L]`, row-major, on the
/// host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenIds {
    length: usize,
    ids: Vec<u32>,
}

impl TokenIds {
    /// Takes the ids of one or more prompts of `length` tokens.
    ///
    /// # Errors
    /// [`Error::Shape`] when there is no prompt, no token, or a prompt is incomplete.
    pub fn new(length: usize, ids: Vec<u32>) -> Result<Self> {
        if length == 0 || ids.is_empty() || !ids.len().is_multiple_of(length) {
            return Err(Error::shape(
                "token ids",
                format!("one or more prompts of {length} tokens, at least 1"),
                format!("{} ids", ids.len()),
            ));
        }
        Ok(Self { length, ids })
    }

    /// Number of prompts, 1 or more.
    pub fn batch(&self) -> usize {
        self.ids.len() / self.length
    }

    /// Tokens per prompt, 1 or more.
    pub fn length(&self) -> usize {
        self.length
    }

    /// All ids, `[B, L]` row-major.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The ids of each prompt.
    pub fn prompts(&self) -> impl Iterator<Item = &[u32]> {
        self.ids.chunks_exact(self.length)
    }

    /// The ids as a `[B, L]` tensor, for a table of `vocab_size` rows and a model of at most
    /// `positions` tokens. Both are checked here, on the host: what a lookup outside the table
    /// does is up to the backend.
    pub(crate) fn to_tensor(
        &self,
        vocab_size: usize,
        positions: usize,
        device: &Device,
    ) -> Result<Tensor<2, Int>> {
        if self.length > positions {
            let expected = format!("at most {positions} tokens a prompt");
            return Err(Error::shape("token ids", expected, self.length));
        }
        if let Some(position) = self.ids.iter().position(|&id| id as usize >= vocab_size) {
            let id = self.ids[position];
            return Err(Error::TokenOutOfRange { id, position, limit: vocab_size });
        }
        // Configs keep vocabularies far below 2^31, and i32 is what GPUs index with.
        let ids: Vec<i32> = self.ids.iter().map(|&id| id as i32).collect();
        Ok(Tensor::from_data(TensorData::new(ids, [self.batch(), self.length]), device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incomplete_batches_are_errors() {
        for (length, ids) in [(0, vec![]), (2, vec![]), (2, vec![1, 2, 3])] {
            assert!(matches!(TokenIds::new(length, ids), Err(Error::Shape { .. })));
        }
        let ids = TokenIds::new(2, vec![1, 2, 3, 4]).unwrap();
        assert_eq!((ids.batch(), ids.length()), (2, 2));
        assert_eq!(ids.prompts().nth(1), Some(&[3, 4][..]));
    }

    #[test]
    fn nothing_outside_the_tables_reaches_a_device() {
        let ids = TokenIds::new(2, vec![1, 2, 3, 4]).unwrap();
        let device = Device::flex();
        let error = ids.to_tensor(4, 2, &device).unwrap_err();
        assert!(matches!(error, Error::TokenOutOfRange { id: 4, position: 3, limit: 4 }));
        assert!(matches!(ids.to_tensor(5, 1, &device), Err(Error::Shape { .. })));
        assert!(ids.to_tensor(5, 2, &device).is_ok());
    }
}
