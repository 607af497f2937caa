use std::ops::Range;

use burn::tensor::{DType, Int, Tensor, activation};
use editmgt_core::{AttentionMaps, AttentionRequest, GridSize, Result, read_back};

/// Collects text-to-image attention during a pass.
///
/// Captures a separate softmax over the `[text, image]` keys, without the reference: with it, the
/// probabilities would show how much the text attends to the photo, not where in the canvas. (As in
/// the official code.)
pub(crate) struct Capture<'a> {
    request: &'a AttentionRequest,
    text_rows: usize,
    grid: GridSize,
    /// The text rows of each requested item; `None` for all.
    rows: Vec<Option<Tensor<1, Int>>>,
    /// The maps of each requested block, `[items, cells]`, in the order of the request.
    maps: Vec<Option<Tensor<2>>>,
}

/// Items that are computed together.
struct Run<'a> {
    items: Range<usize>,
    /// The text rows of a single item; `None` for all.
    rows: Option<&'a Tensor<1, Int>>,
}

/// The slot of a requested block in a [`Capture`].
pub(crate) struct Probe<'c, 'a> {
    capture: &'c mut Capture<'a>,
    slot: usize,
}

impl<'a> Capture<'a> {
    /// `None` for an empty request. The request must have been checked; `rows` are its text rows.
    pub(crate) fn new(
        request: &'a AttentionRequest,
        text_rows: usize,
        grid: GridSize,
        rows: Vec<Option<Tensor<1, Int>>>,
    ) -> Option<Self> {
        if request.is_empty() {
            return None;
        }
        let maps = vec![None; request.blocks.len()];
        Some(Self { request, text_rows, grid, rows, maps })
    }

    /// The slot of a block, if it is requested.
    pub(crate) fn probe(&mut self, block: usize) -> Option<Probe<'_, 'a>> {
        let slot = self.request.blocks.iter().position(|&requested| requested == block)?;
        Some(Probe { capture: self, slot })
    }

    /// The requested items, grouped into runs that are computed together: adjacent batch items with
    /// all rows requested.
    fn runs(&self) -> Vec<Run<'_>> {
        let mut runs: Vec<Run<'_>> = Vec::new();
        for (item, rows) in self.request.items.iter().zip(&self.rows) {
            match (runs.last_mut(), rows) {
                (Some(run), None) if run.rows.is_none() && run.items.end == item.item => {
                    run.items.end += 1;
                }
                _ => runs.push(Run { items: item.item..item.item + 1, rows: rows.as_ref() }),
            }
        }
        runs
    }

    /// The map of a run, `[items, cells]`.
    fn map(&self, run: Run<'_>, query: &Tensor<4>, key: &Tensor<4>) -> Tensor<2> {
        let [_, heads, _, head_dim] = query.dims();
        let (text, cells) = (self.text_rows, self.grid.len());
        let items = run.items.len();
        let of_run = |x: &Tensor<4>, tokens| {
            x.clone().narrow(0, run.items.start, items).narrow(2, 0, tokens).cast(DType::F32)
        };
        let query = of_run(query, text);
        let query = match run.rows {
            None => query,
            Some(rows) => query.select(2, rows.clone()),
        };
        let key = of_run(key, text + cells);
        let scores = query.matmul(key.swap_dims(2, 3)) / (head_dim as f64).sqrt();
        let to_image = activation::softmax(scores, 3).narrow(3, text, cells);
        let [_, _, rows, _] = to_image.dims();
        to_image.reshape([items, heads * rows, cells]).mean_dim(1).squeeze_dim(1)
    }

    /// The map of each requested block, `[items, cells]`, on the device.
    pub(crate) fn into_tensors(self) -> Vec<Tensor<2>> {
        let maps = self.maps.into_iter();
        maps.map(|map| {
            map.expect("checked requests name existing blocks, and a pass runs all of them")
        })
        .collect()
    }

    /// Reads everything back in one transfer.
    pub(crate) fn finish(self) -> Result<AttentionMaps> {
        let (request, grid) = (self.request, self.grid);
        let values = read_back(Tensor::cat(self.into_tensors(), 0), "reading attention maps")?;
        AttentionMaps::new(request.blocks.clone(), request.items.len(), grid, values)
    }
}

impl Probe<'_, '_> {
    /// Computes the maps of the requested items and rows from queries and keys `[B, heads, N,
    /// head_dim]`, text first; queries have at least the text rows, keys at least text and image.
    pub(crate) fn record(self, query: &Tensor<4>, key: &Tensor<4>) {
        let Self { capture, slot } = self;
        let maps = capture.runs().into_iter().map(|run| capture.map(run, query, key));
        capture.maps[slot] = Some(Tensor::cat(maps.collect(), 0));
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};
    use editmgt_core::{ItemRows, TextRows};

    use super::*;

    /// Scores of 64 are 0.25 apart in bf16; before they are scaled, those of the second case are
    /// beyond f16.
    #[test]
    fn maps_are_computed_in_f32() {
        let (device, grid) = (Device::flex(), GridSize::new(2, 3));
        let items = vec![ItemRows { item: 0, rows: TextRows::All }];
        let request = AttentionRequest { blocks: vec![0], items };
        for dtype in [DType::BF16, DType::F16] {
            for size in [4.0, 100.0] {
                let random = || {
                    let normal = Distribution::Normal(0.0, size);
                    Tensor::<4>::random([1, 2, 4 + grid.len(), 16], normal, &device).cast(dtype)
                };
                let (query, key) = (random(), random());
                let maps = |query: &Tensor<4>, key: &Tensor<4>| {
                    let mut capture = Capture::new(&request, 4, grid, vec![None]).unwrap();
                    capture.probe(0).unwrap().record(query, key);
                    capture.finish().unwrap()
                };
                let wide = |x: &Tensor<4>| x.clone().cast(DType::F32);
                let exact = maps(&wide(&query), &wide(&key));
                assert_eq!(maps(&query, &key), exact, "{dtype:?}, {size}");
            }
        }
    }
}
