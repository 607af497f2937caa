use editmgt_core::{GridSize, MicroConditions};

use crate::run::TrainError;
use editmgt_world::Category;

/// An edit in tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct EditExample {
    /// The tokens of the image before, row-major.
    pub before: Vec<u32>,
    /// The tokens of the image after.
    pub after: Vec<u32>,
    /// Whether each token is part of the edit.
    pub changed: Vec<bool>,
    /// The instruction.
    pub instruction: String,
    /// The kind of edit, if known.
    pub category: Option<Category>,
    /// What each token of the image before shows: one class for each question of
    /// [`EditDataset::content_classes`], token by token.
    pub contents: Vec<u32>,
}

/// Edits to train on, all on one grid.
pub trait EditDataset: Send + Sync {
    /// Number of edits, 1 or more.
    fn len(&self) -> u64;

    /// Always false: no data set is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The token grid of every image.
    fn grid(&self) -> GridSize;

    /// Micro-conditioning of the images.
    fn micro(&self) -> MicroConditions;

    /// The number of classes of each question about what a token shows; empty where that is
    /// unknown.
    fn content_classes(&self) -> Vec<usize> {
        Vec::new()
    }

    /// These examples, each index below [`len`](Self::len). Deterministic: an index always gives
    /// the same example.
    ///
    /// # Errors
    /// [`TrainError::Data`] with the index.
    fn examples(&self, indices: &[u64]) -> Result<Vec<EditExample>, TrainError>;
}
