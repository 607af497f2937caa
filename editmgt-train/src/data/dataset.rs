use editmgt_core::{GridSize, MicroConditions};

use crate::run::TrainError;
use editmgt_world::Category;

/// An edit in tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct EditExample {
    /// The tokens of the picture before, row-major.
    pub before: Vec<u32>,
    /// The tokens of the picture after.
    pub after: Vec<u32>,
    /// Whether each token is part of the edit.
    pub changed: Vec<bool>,
    /// The instruction.
    pub instruction: String,
    /// The kind of edit, where it is known.
    pub category: Option<Category>,
}

/// Edits to learn from, all on one grid.
pub trait EditDataset {
    /// How many there are, 1 or more.
    fn len(&self) -> u64;

    /// Whether there are none; no data set is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The token grid of every picture.
    fn grid(&self) -> GridSize;

    /// What the model is told about the pictures.
    fn micro(&self) -> MicroConditions;

    /// These examples, each index below [`len`](Self::len). The same index gives the same example
    /// on every call.
    ///
    /// # Errors
    /// [`TrainError::Data`] with the index.
    fn examples(&self, indices: &[u64]) -> Result<Vec<EditExample>, TrainError>;
}
