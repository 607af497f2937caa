use burn::tensor::{DType, Device, Int, Tensor, TensorData, activation};
use editmgt_core::{AttentionMaps, AttentionRequest, Error, GridSize, Result, TextRows};

/// Collects text-to-image attention during a pass.
///
/// What is captured is a softmax of its own over the `[text, image]` keys, as if there were no
/// reference: the probabilities that an edit uses would show how much the text looks at the photo,
/// not where in the canvas. (The official code does the same.)
pub(crate) struct Capture<'a> {
    request: &'a AttentionRequest,
    text_rows: usize,
    grid: GridSize,
    /// One selection of text rows per asked item; `None` for all.
    rows: Vec<Option<Tensor<1, Int>>>,
    /// The maps of each asked block, `[items, cells]`, in the order of the request.
    maps: Vec<Option<Tensor<2>>>,
}

/// The place of one asked block in a [`Capture`].
pub(crate) struct Probe<'c, 'a> {
    capture: &'c mut Capture<'a>,
    slot: usize,
}

impl<'a> Capture<'a> {
    /// `None` when nothing is asked for. The request must have been checked.
    pub(crate) fn new(
        request: &'a AttentionRequest,
        text_rows: usize,
        grid: GridSize,
        device: &Device,
    ) -> Option<Self> {
        if request.is_empty() {
            return None;
        }
        let select = |rows: &TextRows| match rows {
            TextRows::All => None,
            TextRows::Rows(rows) => {
                let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
                let count = rows.len();
                Some(Tensor::from_data(TensorData::new(rows, [count]), device))
            }
        };
        let rows = request.items.iter().map(|item| select(&item.rows)).collect();
        let maps = vec![None; request.blocks.len()];
        Some(Self { request, text_rows, grid, rows, maps })
    }

    /// The place of a block, if it is asked for.
    pub(crate) fn probe(&mut self, block: usize) -> Option<Probe<'_, 'a>> {
        let slot = self.request.blocks.iter().position(|&asked| asked == block)?;
        Some(Probe { capture: self, slot })
    }

    /// Reads everything back in one transfer.
    pub(crate) fn finish(self) -> Result<AttentionMaps> {
        let maps: Vec<_> = self
            .maps
            .into_iter()
            .map(|map| map.expect("every asked block exists and has been passed"))
            .collect();
        let values = Tensor::cat(maps, 0)
            .try_into_vec_as::<f32>()
            .map_err(|e| Error::device("reading attention maps", e))?;
        let items = self.request.items.len();
        AttentionMaps::new(self.request.blocks.clone(), items, self.grid, values)
    }
}

impl Probe<'_, '_> {
    /// Takes the queries of (at least) the text rows and the keys of (at least) text and image,
    /// `[B, heads, N, head_dim]` with text first. Only the asked items and rows are computed.
    pub(crate) fn record(self, query: &Tensor<4>, key: &Tensor<4>) {
        let Self { capture, slot } = self;
        let [_, heads, _, head_dim] = query.dims();
        let (text, cells) = (capture.text_rows, capture.grid.len());
        let items = capture.request.items.iter().zip(&capture.rows);
        let maps = items.map(|(item, rows)| {
            let of_item = |x: &Tensor<4>, tokens| {
                x.clone().narrow(0, item.item, 1).narrow(2, 0, tokens).cast(DType::F32)
            };
            let query = of_item(query, text);
            let query = match rows {
                None => query,
                Some(rows) => query.select(2, rows.clone()),
            };
            let key = of_item(key, text + cells);
            let scores = query.matmul(key.swap_dims(2, 3)) / (head_dim as f64).sqrt();
            let to_image = activation::softmax(scores, 3).narrow(3, text, cells);
            let [_, _, rows, _] = to_image.dims();
            to_image.reshape([heads * rows, cells]).mean_dim(0)
        });
        capture.maps[slot] = Some(Tensor::cat(maps.collect(), 0));
    }
}
