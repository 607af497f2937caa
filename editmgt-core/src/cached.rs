//! Steps that compute only a part of the canvas.

use std::any::Any;
use std::fmt;

use burn::tensor::{IndexingUpdateOp, Tensor};
use serde::{Deserialize, Serialize};

use crate::{
    AttentionRequest, Error, GridSize, Result, StepInput, TokenGrid, TransformerSpec, Upload,
};

/// The cells of the transformer's inner grid that a partial step computes, the same number for each
/// batch item.
///
/// A cell covers `factor` by `factor` tokens ([`TransformerSpec::grid_factor`]), its *slots*,
/// row-major; those of the last row and column of cells may lie outside an odd token grid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveRows {
    tokens: GridSize,
    factor: usize,
    /// Active cells of an item.
    rows: usize,
    /// `[B, rows]`, ascending for each item.
    cells: Vec<usize>,
}

impl ActiveRows {
    /// The cells with a flag, `[B, cells]` row-major. Where an item has fewer of them than another,
    /// idle ones are added, which costs work and changes nothing else. `None` if no flag is set.
    ///
    /// # Errors
    /// [`Error::Shape`] if `active` is not a number of flags for each cell of the inner grid.
    pub fn new(tokens: GridSize, factor: usize, active: &[bool]) -> Result<Option<Self>> {
        let cells = tokens.div_ceil(factor.max(1)).len();
        if cells == 0 || !active.len().is_multiple_of(cells) {
            return Err(Error::shape(
                "active cells",
                format!("{cells} for each image"),
                active.len(),
            ));
        }
        let items = || active.chunks_exact(cells);
        let count = |item: &[bool]| item.iter().filter(|&&active| active).count();
        let rows = items().map(count).max().unwrap_or_default();
        if rows == 0 {
            return Ok(None);
        }
        let all = items().flat_map(|item| {
            let mut missing = rows - count(item);
            item.iter().enumerate().filter_map(move |(cell, &active)| {
                let added = !active && missing > 0;
                missing -= usize::from(added);
                (active || added).then_some(cell)
            })
        });
        Ok(Some(Self { tokens, factor: factor.max(1), rows, cells: all.collect() }))
    }

    /// The cells that have to be computed: those with a mask token, and those whose tokens differ
    /// from `computed`, the tokens for which each cell was computed last. `None`: no cell.
    ///
    /// # Errors
    /// [`Error::Shape`] if the grids differ.
    pub fn of_step(
        tokens: &TokenGrid,
        computed: &TokenGrid,
        spec: &TransformerSpec,
    ) -> Result<Option<Self>> {
        let shape = |tokens: &TokenGrid| format!("{} of {}", tokens.batch(), tokens.size());
        if shape(tokens) != shape(computed) {
            return Err(Error::shape("computed tokens", shape(tokens), shape(computed)));
        }
        let (size, factor) = (tokens.size(), spec.grid_factor.max(1));
        let inner = size.div_ceil(factor);
        let mut active = vec![false; tokens.batch() * inner.len()];
        let both = tokens.ids().iter().zip(computed.ids()).enumerate();
        for (position, (&id, &before)) in both {
            if id == spec.mask_token || id != before {
                let (item, token) = (position / size.len(), position % size.len());
                let (row, column) = (token / size.width, token % size.width);
                active[item * inner.len() + row / factor * inner.width + column / factor] = true;
            }
        }
        Self::new(size, factor, &active)
    }

    /// The same cells for `times` copies of the batch, as guidance makes them.
    #[must_use]
    pub fn repeat(&self, times: usize) -> Self {
        Self { cells: self.cells.repeat(times), ..self.clone() }
    }

    /// Number of batch items.
    pub fn batch(&self) -> usize {
        self.cells.len() / self.rows
    }

    /// Number of cells of each item.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The cells of all items, `[B, rows]`, ascending for each item.
    pub fn cells(&self) -> &[usize] {
        &self.cells
    }

    /// Fraction of the cells that is active, above 0 up to 1.
    pub fn share(&self) -> f32 {
        self.rows as f32 / self.tokens.div_ceil(self.factor).len() as f32
    }

    /// Number of slots of each item: `rows * factor * factor`.
    pub fn slots(&self) -> usize {
        self.rows * self.factor * self.factor
    }

    /// The position of each slot in its item's token grid, `[B, slots]`, cell by cell; `None`
    /// outside the grid.
    pub fn positions(&self) -> Vec<Option<usize>> {
        let (factor, width) = (self.factor, self.tokens.div_ceil(self.factor).width);
        let of_cell = |&cell: &usize| {
            let (top, left) = (cell / width * factor, cell % width * factor);
            (0..factor * factor).map(move |slot| {
                let (row, column) = (top + slot / factor, left + slot % factor);
                let inside = row < self.tokens.height && column < self.tokens.width;
                inside.then_some(row * self.tokens.width + column)
            })
        };
        self.cells.iter().flat_map(of_cell).collect()
    }

    /// Copies the tokens of these cells from `tokens` to `computed`, two grids of the batch.
    pub fn copy_tokens(&self, tokens: &TokenGrid, computed: &mut TokenGrid) {
        let count = self.tokens.len();
        for (slot, position) in self.positions().into_iter().enumerate() {
            if let Some(position) = position {
                let position = slot / self.slots() * count + position;
                computed.ids_mut()[position] = tokens.ids()[position];
            }
        }
    }

    /// Selects the slots of all logits: `[B, N, V]` to `[B, slots, V]`. Slots outside the grid get
    /// the first token's.
    ///
    /// # Errors
    /// [`Error::Shape`] for another batch or grid.
    pub fn select(&self, logits: Tensor<3>) -> Result<Tensor<3>> {
        let [batch, tokens, classes] = logits.dims();
        self.check_logits([batch, tokens], self.tokens.len())?;
        let from =
            self.positions().into_iter().enumerate().map(|(slot, position)| {
                slot / self.slots() * tokens + position.unwrap_or_default()
            });
        let mut upload = Upload::default();
        let from = upload.indices(from)?;
        let from = upload.send(&logits.device()).indices(from, [batch * self.slots()]);
        let rows = logits.reshape([batch * tokens, classes]).select(0, from);
        Ok(rows.reshape([batch, self.slots(), classes]))
    }

    /// Puts logits of the slots in their places: `[B, slots, V]` to `[B, N, V]`, 0 for all other
    /// tokens.
    ///
    /// # Errors
    /// [`Error::Shape`] for another batch or number of slots.
    pub fn expand(&self, logits: Tensor<3>) -> Result<Tensor<3>> {
        let [batch, slots, classes] = logits.dims();
        self.check_logits([batch, slots], self.slots())?;
        let (mut from, mut to) = (Vec::new(), Vec::new());
        for (slot, position) in self.positions().into_iter().enumerate() {
            if let Some(position) = position {
                from.push(slot);
                to.push(slot / slots * self.tokens.len() + position);
            }
        }
        let options = (&logits.device(), logits.dtype());
        let all = Tensor::<2>::zeros([batch * self.tokens.len(), classes], options);
        let (count, mut upload) = (from.len(), Upload::default());
        let from = if count < batch * slots { Some(upload.indices(from)?) } else { None };
        let to = upload.indices(to)?;
        let sent = upload.send(&logits.device());
        let (from, to) = (from.map(|from| sent.indices(from, [count])), sent.indices(to, [count]));
        let rows = logits.reshape([batch * slots, classes]);
        let rows = match from {
            Some(from) => rows.select(0, from),
            None => rows,
        };
        let all = all.select_assign(0, to, rows, IndexingUpdateOp::Add);
        Ok(all.reshape([batch, self.tokens.len(), classes]))
    }

    fn check_logits(&self, got: [usize; 2], rows: usize) -> Result<()> {
        let expected = [self.batch(), rows];
        if got == expected {
            return Ok(());
        }
        Err(Error::shape("logits [B, N]", format!("{expected:?}"), format!("{got:?}")))
    }

    /// Checks that a partial step with these cells fits `input` and the model.
    ///
    /// # Errors
    /// [`Error::Shape`] for another batch, grid or factor; [`Error::Value`] for a request that is
    /// not empty, since a partial step has no rows of text.
    pub fn check(
        &self,
        input: &StepInput<'_>,
        request: &AttentionRequest,
        spec: &TransformerSpec,
    ) -> Result<()> {
        let shape = |batch: usize, size: GridSize, factor: usize| {
            format!("{batch} of {size} with {factor} tokens along a cell")
        };
        let expected = shape(input.tokens.batch(), input.tokens.size(), spec.grid_factor.max(1));
        let got = shape(self.batch(), self.tokens, self.factor);
        if expected != got {
            return Err(Error::shape("active cells", expected, got));
        }
        if !request.is_empty() {
            let expected = "none in a partial step: capture attention in a full step";
            return Err(Error::value("attention request", expected, "blocks and items"));
        }
        Ok(())
    }
}

/// The precision of the keys and values that a full step keeps.
///
/// In JSON `"model"` and `"bf16"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CacheDtype {
    /// That in which the model computes them.
    #[default]
    Model,
    /// bf16: half the memory of f32. Partial steps then attend with operands in bf16.
    Bf16,
}

/// What a full step keeps for partial steps: owned by the caller, filled by
/// [`MgtTransformer::forward_cached`](crate::MgtTransformer::forward_cached), opaque to others.
///
/// It belongs to one run of one model: text, micro-conditions, reference and its strength must be
/// the same in all steps that share it.
#[derive(Default)]
pub struct StepCache {
    kept: Option<Box<dyn Any + Send>>,
    dtype: CacheDtype,
}

impl StepCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty cache of keys and values in this precision, which a transformer may ignore.
    pub fn with_dtype(dtype: CacheDtype) -> Self {
        Self { kept: None, dtype }
    }

    /// The precision in which keys and values are to be kept.
    pub fn dtype(&self) -> CacheDtype {
        self.dtype
    }

    /// Whether a full step filled it.
    pub fn is_empty(&self) -> bool {
        self.kept.is_none()
    }

    /// Frees what is kept.
    pub fn clear(&mut self) {
        self.kept = None;
    }

    /// For implementations of a transformer: keeps `state`.
    pub fn put<T: Any + Send>(&mut self, state: T) {
        self.kept = Some(Box::new(state));
    }

    /// For implementations of a transformer: takes out what [`put`](Self::put) kept, if it is a
    /// `T`, and frees it otherwise. A full step can take the memory of the one before, part by
    /// part.
    pub fn take<T: Any>(&mut self) -> Option<T> {
        Some(*self.kept.take()?.downcast().ok()?)
    }

    /// For implementations of a transformer: what [`put`](Self::put) kept, if it is a `T`.
    pub fn get_mut<T: Any>(&mut self) -> Option<&mut T> {
        self.kept.as_mut()?.downcast_mut()
    }
}

impl fmt::Debug for StepCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "StepCache(empty)" } else { "StepCache(filled)" })
    }
}

/// The work of the steps so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct StepWork {
    /// Steps that computed the whole canvas.
    pub full: usize,
    /// Steps that computed a part of it, or nothing.
    pub partial: usize,
    /// Fractions of the cells that each step computed, summed over all steps.
    pub cells: f32,
}

impl StepWork {
    /// Adds a step that computed this fraction of the cells; `None`: a full step.
    pub fn add(&mut self, partial: Option<f32>) {
        match partial {
            None => self.full += 1,
            Some(_) => self.partial += 1,
        }
        self.cells += partial.unwrap_or(1.0);
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    const SPEC: TransformerSpec = TransformerSpec {
        codebook_size: 8,
        mask_token: 8,
        double_blocks: 1,
        single_blocks: 1,
        grid_factor: 2,
        text_size: 1,
        pooled_size: 1,
    };

    /// A grid with an odd side: the third column of tokens is a column of cells.
    fn rows() -> (ActiveRows, TokenGrid, TokenGrid) {
        let size = GridSize::new(4, 3);
        let computed = TokenGrid::filled(2, size, 1);
        let mut tokens = computed.clone();
        // Item 0: a mask token in cell 3. Item 1: a changed token in cell 0, a mask token in cell
        // 2.
        for (position, id) in [(8, 8), (12 + 4, 5), (12 + 6, 8)] {
            tokens.ids_mut()[position] = id;
        }
        let active = ActiveRows::of_step(&tokens, &computed, &SPEC).unwrap().unwrap();
        (active, tokens, computed)
    }

    #[test]
    fn masked_and_changed_cells_are_active() {
        let (active, tokens, mut computed) = rows();
        // Cell 0 of the first item is added.
        assert_eq!((active.rows(), active.cells()), (2, &[0, 3, 0, 2][..]));
        assert_eq!((active.batch(), active.slots(), active.share()), (2, 8, 0.5));
        let expected = [Some(0), Some(1), Some(3), Some(4), Some(8), None, Some(11), None];
        assert_eq!(active.positions()[..8], expected);
        assert_eq!(active.repeat(2).cells(), [0, 3, 0, 2, 0, 3, 0, 2]);
        active.copy_tokens(&tokens, &mut computed);
        assert_eq!(computed, tokens);
        // What is masked stays active; what was computed does not.
        let again = ActiveRows::of_step(&tokens, &computed, &SPEC).unwrap().unwrap();
        assert_eq!(again.cells(), [3, 2]);
        let known = TokenGrid::filled(1, GridSize::new(4, 3), 1);
        assert_eq!(ActiveRows::of_step(&known, &known, &SPEC).unwrap(), None);
        assert!(matches!(ActiveRows::of_step(&tokens, &known, &SPEC), Err(Error::Shape { .. })));
    }

    #[test]
    fn expand_puts_back_what_select_took() {
        let (active, ..) = rows();
        let values: Vec<f32> = (1..=2 * 12 * 2).map(|i| i as f32).collect();
        let logits = TensorData::new(values.clone(), [2, 12, 2]);
        let logits = Tensor::<3>::from_data(logits, &Device::flex());
        let selected = active.select(logits.clone()).unwrap();
        assert_eq!(selected.dims(), [2, 8, 2]);
        let expanded = active.expand(selected).unwrap().try_into_vec_as::<f32>().unwrap();
        let positions = active.positions();
        for (index, (got, value)) in expanded.into_iter().zip(values).enumerate() {
            let (item, token) = (index / 24, index % 24 / 2);
            let known = positions[item * 8..][..8].contains(&Some(token));
            assert_eq!(got, if known { value } else { 0.0 }, "token {token} of item {item}");
        }
        assert!(active.expand(logits.clone()).is_err());
        assert!(active.select(logits.narrow(0, 0, 1)).is_err());
    }
}
