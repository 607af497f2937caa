use std::fmt;

use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, Transfers};

/// Height and width of a grid, in tokens (or in cells of a map).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GridSize {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl GridSize {
    /// A grid of `height` rows and `width` columns.
    pub const fn new(height: usize, width: usize) -> Self {
        Self { height, width }
    }

    /// Number of positions.
    pub const fn len(self) -> usize {
        self.height * self.width
    }

    /// Whether the grid has no position.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The grid after merging `factor`×`factor` blocks; an incomplete block at the edge counts as
    /// one.
    pub const fn div_ceil(self, factor: usize) -> Self {
        Self::new(self.height.div_ceil(factor), self.width.div_ceil(factor))
    }

    /// Divides both sides by `factor`, rounding down, at least 1 each (a side of 0 stays 0).
    ///
    /// # Errors
    /// [`Error::Value`] for a factor of 0.
    pub fn shrunk(self, factor: usize) -> Result<Self> {
        if factor == 0 {
            return Err(Error::value("shrink factor", "1 or more", factor));
        }
        let side = |side: usize| (side / factor).max(1).min(side);
        Ok(Self::new(side(self.height), side(self.width)))
    }
}

impl fmt::Display for GridSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.height, self.width)
    }
}

/// A batch of images as visual tokens: `[batch, height, width]` ids, row-major, on the host.
///
/// Ids index a codebook; the transformer's mask token (see
/// [`TransformerSpec::mask_token`](crate::TransformerSpec)) marks positions that are not decided
/// yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenGrid {
    batch: usize,
    size: GridSize,
    ids: Vec<u32>,
}

impl TokenGrid {
    /// A grid of `batch * size.len()` ids, row-major.
    ///
    /// # Errors
    /// [`Error::Shape`] if the number of ids differs.
    pub fn new(batch: usize, size: GridSize, ids: Vec<u32>) -> Result<Self> {
        if ids.len() != batch * size.len() {
            return Err(Error::shape(
                "token grid",
                format!("{} ids for {batch} images of {size}", batch * size.len()),
                ids.len(),
            ));
        }
        Ok(Self { batch, size, ids })
    }

    /// A grid with the same id everywhere, for instance a fully masked canvas.
    pub fn filled(batch: usize, size: GridSize, id: u32) -> Self {
        Self { batch, size, ids: vec![id; batch * size.len()] }
    }

    /// Reads ids from their device.
    ///
    /// # Shapes
    /// `ids`: `[batch, height, width]`.
    ///
    /// # Errors
    /// [`Error::Value`] for a negative id, [`Error::Device`] if reading fails.
    pub fn from_tensor(ids: Tensor<3, Int>) -> Result<Self> {
        let [batch, height, width] = ids.dims();
        Transfers::count_read_back();
        let ids = ids
            .try_into_vec_as::<i64>()
            .map_err(|e| Error::device("reading token ids", e))?
            .into_iter()
            .map(|id| u32::try_from(id).map_err(|_| Error::value("token id", "0 to 2^32 - 1", id)))
            .collect::<Result<Vec<_>>>()?;
        Self::new(batch, GridSize::new(height, width), ids)
    }

    /// Uploads the ids, in the device's default integer type.
    ///
    /// # Shapes
    /// Result: `[batch, height, width]`.
    ///
    /// # Errors
    /// [`Error::TokenOutOfRange`] if an id is not below `limit`: a lookup with it would read
    /// outside the table, which backends don't check.
    pub fn to_tensor(&self, limit: usize, device: &Device) -> Result<Tensor<3, Int>> {
        self.check_below(limit)?;
        // i32 holds every id below 2^31 and is the default integer type of flex and the GPUs.
        let ids: Vec<i32> = self.ids.iter().map(|&id| id as i32).collect();
        let shape = [self.batch, self.size.height, self.size.width];
        Transfers::count_upload();
        Ok(Tensor::from_data(TensorData::new(ids, shape), device))
    }

    /// Checks that every id is below `limit`.
    ///
    /// # Errors
    /// [`Error::TokenOutOfRange`] with the first id that isn't.
    pub fn check_below(&self, limit: usize) -> Result<()> {
        let outside = |&id: &u32| id as usize >= limit || id > i32::MAX as u32;
        match self.ids.iter().position(outside) {
            None => Ok(()),
            Some(position) => {
                Err(Error::TokenOutOfRange { id: self.ids[position], position, limit })
            }
        }
    }

    /// Number of images.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Height and width.
    pub fn size(&self) -> GridSize {
        self.size
    }

    /// All ids, `[batch, height, width]` row-major.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// All ids, to change in place.
    pub fn ids_mut(&mut self) -> &mut [u32] {
        &mut self.ids
    }

    /// The ids of one image. Panics when `image >= batch`.
    pub fn image(&self, image: usize) -> &[u32] {
        let n = self.size.len();
        &self.ids[image * n..(image + 1) * n]
    }

    /// Number of positions of the whole batch with this id.
    pub fn count(&self, id: u32) -> usize {
        self.ids.iter().filter(|&&other| other == id).count()
    }

    /// Repeats the batch: `[a, b]` becomes `[a, b, a, b]` for 2 times.
    pub fn repeat(&self, times: usize) -> Self {
        Self { batch: self.batch * times, size: self.size, ids: self.ids.repeat(times) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensor_round_trip_keeps_ids() {
        let grid = TokenGrid::new(2, GridSize::new(1, 3), vec![5, 0, 8255, 1, 2, 3]).unwrap();
        let back = TokenGrid::from_tensor(grid.to_tensor(8256, &Device::flex()).unwrap()).unwrap();
        assert_eq!(back, grid);
    }

    #[test]
    fn to_tensor_rejects_ids_outside_the_table() {
        let grid = TokenGrid::new(1, GridSize::new(1, 2), vec![3, 9]).unwrap();
        let error = grid.to_tensor(9, &Device::flex()).unwrap_err();
        assert!(matches!(error, Error::TokenOutOfRange { id: 9, position: 1, limit: 9 }));
    }

    #[test]
    fn shrunk_rounds_down_to_at_least_one() {
        let shrunk = |factor| GridSize::new(5, 2).shrunk(factor);
        for (factor, expected) in [(1, [5, 2]), (2, [2, 1]), (3, [1, 1]), (9, [1, 1])] {
            assert_eq!(shrunk(factor).unwrap(), GridSize::new(expected[0], expected[1]));
        }
        assert!(matches!(shrunk(0), Err(Error::Value { .. })));
        assert_eq!(GridSize::new(0, 4).shrunk(2).unwrap(), GridSize::new(0, 2));
    }

    #[test]
    fn new_rejects_a_wrong_number_of_ids() {
        assert!(TokenGrid::new(1, GridSize::new(2, 2), vec![0; 3]).is_err());
    }
}
