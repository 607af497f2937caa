use burn::tensor::{Int, Tensor, activation};
use editmgt_core::{AttentionMaps, AttentionRequest, GridSize, Result, read_back};

/// Collects the attention between image and text during a pass.
///
/// Here the image attends to the text, never the text to the image. A map is therefore made of the
/// attention that a text row receives: the share of it that comes from each cell, which is a
/// distribution over cells like the text-to-image attention of other models.
pub(super) struct Capture<'a> {
    request: &'a AttentionRequest,
    grid: GridSize,
    /// The text rows of each requested item; `None` for all.
    rows: Vec<Option<Tensor<1, Int>>>,
    /// The maps of each requested block: `[items, cells]` for each of its attentions.
    maps: Vec<Vec<Tensor<2>>>,
}

/// The slot of a requested block in a [`Capture`].
pub(super) struct Probe<'c, 'a> {
    capture: &'c mut Capture<'a>,
    slot: usize,
}

impl<'a> Capture<'a> {
    /// `None` for an empty request. The request must have been checked; `rows` are its text rows.
    pub(super) fn new(
        request: &'a AttentionRequest,
        grid: GridSize,
        rows: Vec<Option<Tensor<1, Int>>>,
    ) -> Option<Self> {
        if request.is_empty() {
            return None;
        }
        Some(Self { request, grid, rows, maps: vec![Vec::new(); request.blocks.len()] })
    }

    /// The slot of a block, if it is requested.
    pub(super) fn probe(&mut self, block: usize) -> Option<Probe<'_, 'a>> {
        let slot = self.request.blocks.iter().position(|&requested| requested == block)?;
        Some(Probe { capture: self, slot })
    }

    /// Reads everything back in one transfer; a block with several attentions has their mean.
    pub(super) fn finish(self) -> Result<AttentionMaps> {
        let (request, grid) = (self.request, self.grid);
        let means = self.maps.into_iter().map(|of_block| {
            let count = of_block.len() as f64;
            let sum = of_block.into_iter().reduce(|sum, map| sum + map);
            sum.expect("checked requests name existing blocks, and a pass runs all of them") / count
        });
        let values = read_back(Tensor::cat(means.collect(), 0), "reading attention maps")?;
        AttentionMaps::new(request.blocks.clone(), request.items.len(), grid, values)
    }
}

impl Probe<'_, '_> {
    /// Computes the maps of the requested items and rows from queries `[B, heads, cells, head_dim]`
    /// of the image and keys `[B, heads, T, head_dim]` of the text, in f32.
    pub(super) fn record(&mut self, query: &Tensor<4>, key: &Tensor<4>) {
        let Self { capture, slot } = self;
        let [_, heads, cells, head_dim] = query.dims();
        let items = capture.request.items.iter().zip(&capture.rows).map(|(item, rows)| {
            let of_item = |x: &Tensor<4>| x.clone().narrow(0, item.item, 1);
            let scores = of_item(query).matmul(of_item(key).swap_dims(2, 3));
            let shares = activation::softmax(scores / (head_dim as f64).sqrt(), 3);
            let shares = match rows {
                None => shares,
                Some(rows) => shares.select(3, rows.clone()),
            };
            // A row whose attention rounds to 0 in every cell has an empty map, not NaN.
            let received = shares.clone().sum_dim(2).clamp_min(f32::MIN_POSITIVE);
            let [_, _, _, rows] = shares.dims();
            let of_cells = (shares / received).swap_dims(2, 3);
            of_cells.reshape([heads * rows, cells]).mean_dim(0)
        });
        let items = Tensor::cat(items.collect(), 0);
        capture.maps[*slot].push(items);
    }
}
