use crate::{Error, GridSize, Result};

/// Text rows to average.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextRows {
    /// Every row of the sequence, padding and special tokens included (the official default).
    All,
    /// These rows of [`TextConditioning::hidden`](crate::TextConditioning).
    Rows(Vec<usize>),
}

/// A batch item whose attention is captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemRows {
    /// Index into the batch of the forward pass.
    pub item: usize,
    /// The text rows to average.
    pub rows: TextRows,
}

/// The text-to-image attention that a forward pass captures.
///
/// Only what is requested is computed. The default requests nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttentionRequest {
    /// Block indices, double blocks first, then single blocks; in any order, no duplicates.
    pub blocks: Vec<usize>,
    /// The batch items, in output order. With guidance the batch is `[unconditional…,
    /// conditional…]`, and the conditional items are requested.
    pub items: Vec<ItemRows>,
}

impl AttentionRequest {
    /// An empty request.
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether nothing is requested.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty() || self.items.is_empty()
    }

    /// Checks the request against the model and the batch.
    ///
    /// # Errors
    /// [`Error::Value`] for a block, item or row that does not exist, a duplicate block, or an
    /// empty list of rows.
    pub fn check(&self, blocks: usize, batch: usize, text_rows: usize) -> Result<()> {
        for (i, &block) in self.blocks.iter().enumerate() {
            if block >= blocks {
                return Err(Error::value("attention block", format!("below {blocks}"), block));
            }
            if self.blocks[..i].contains(&block) {
                return Err(Error::value("attention blocks", "each block once", block));
            }
        }
        for ItemRows { item, rows } in &self.items {
            if *item >= batch {
                return Err(Error::value("attention item", format!("below {batch}"), item));
            }
            if let TextRows::Rows(rows) = rows {
                if rows.is_empty() {
                    return Err(Error::value("attention rows", "at least one text row", "none"));
                }
                if let Some(row) = rows.iter().find(|&&row| row >= text_rows) {
                    return Err(Error::value("attention row", format!("below {text_rows}"), row));
                }
            }
        }
        Ok(())
    }
}

/// Text-to-image attention, averaged over heads and the requested rows: `[blocks, items, cells]`.
///
/// Each value is the probability with which the text rows attend to a cell of the grid *inside* the
/// blocks (coarser than the token grid if the model downsamples).
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionMaps {
    blocks: Vec<usize>,
    items: usize,
    size: GridSize,
    values: Vec<f32>,
}

impl AttentionMaps {
    /// Maps of `blocks.len() * items * size.len()` values, row-major.
    ///
    /// # Errors
    /// [`Error::Shape`] if the number of values differs.
    pub fn new(blocks: Vec<usize>, items: usize, size: GridSize, values: Vec<f32>) -> Result<Self> {
        let expected = blocks.len() * items * size.len();
        if values.len() != expected {
            return Err(Error::shape("attention maps", expected, values.len()));
        }
        Ok(Self { blocks, items, size, values })
    }

    /// The captured blocks, in the order of the request.
    pub fn blocks(&self) -> &[usize] {
        &self.blocks
    }

    /// Number of batch items.
    pub fn items(&self) -> usize {
        self.items
    }

    /// The grid inside the blocks.
    pub fn size(&self) -> GridSize {
        self.size
    }

    /// The map of one layer (index into [`blocks`](Self::blocks)) and one item, row-major.
    ///
    /// # Panics
    /// If either is out of range.
    pub fn map(&self, layer: usize, item: usize) -> &[f32] {
        assert!(item < self.items, "item {item} of {}", self.items);
        let n = self.size.len();
        let start = (layer * self.items + item) * n;
        &self.values[start..start + n]
    }
}
