use std::fmt;

use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

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

    /// How many positions the grid has.
    pub const fn len(self) -> usize {
        self.height * self.width
    }

    /// Whether the grid has no position at all.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The grid after merging `factor`×`factor` blocks; an odd rest makes a block of its own.
    pub const fn div_ceil(self, factor: usize) -> Self {
        Self::new(self.height.div_ceil(factor), self.width.div_ceil(factor))
    }

    /// A grid `factor` times smaller, rounded down, but never to nothing.
    ///
    /// # Errors
    /// [`Error::Value`] for a factor of 0.
    pub fn shrunk(self, factor: usize) -> Result<Self> {
        if factor == 0 {
            return Err(Error::value("times smaller", "1 or more", factor));
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
/// [`TransformerSpec::mask_token`](crate::TransformerSpec)) stands where nothing is decided yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenGrid {
    batch: usize,
    size: GridSize,
    ids: Vec<u32>,
}

impl TokenGrid {
    /// Takes `batch * size.len()` ids, row-major.
    ///
    /// # Errors
    /// [`Error::Shape`] when the number of ids differs.
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

    /// Reads a `[batch, height, width]` tensor back from its device.
    ///
    /// # Errors
    /// [`Error::Value`] for a negative id, [`Error::Device`] when the device can't hand it over.
    pub fn from_tensor(ids: Tensor<3, Int>) -> Result<Self> {
        let [batch, height, width] = ids.dims();
        let ids = ids
            .try_into_vec_as::<i64>()
            .map_err(|e| Error::device("reading token ids", e))?
            .into_iter()
            .map(|id| u32::try_from(id).map_err(|_| Error::value("token id", "0 to 2^32 - 1", id)))
            .collect::<Result<Vec<_>>>()?;
        Self::new(batch, GridSize::new(height, width), ids)
    }

    /// The ids as a `[batch, height, width]` tensor of the device's default integer type.
    ///
    /// # Errors
    /// [`Error::TokenOutOfRange`] when an id is not below `limit`: a lookup with it would read
    /// outside the table, and what a backend does then is undefined.
    pub fn to_tensor(&self, limit: usize, device: &Device) -> Result<Tensor<3, Int>> {
        self.check_below(limit)?;
        // i32 holds every id below 2^31 and is the default integer type of flex and the GPUs.
        let ids: Vec<i32> = self.ids.iter().map(|&id| id as i32).collect();
        let shape = [self.batch, self.size.height, self.size.width];
        Ok(Tensor::from_data(TensorData::new(ids, shape), device))
    }

    /// Checks that every id is below `limit`.
    ///
    /// # Errors
    /// [`Error::TokenOutOfRange`] with the first offender.
    pub fn check_below(&self, limit: usize) -> Result<()> {
        match self.ids.iter().position(|&id| id as usize >= limit || id > i32::MAX as u32) {
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

    /// How many positions of the whole batch hold `id`.
    pub fn count(&self, id: u32) -> usize {
        self.ids.iter().filter(|&&other| other == id).count()
    }

    /// The batch `times` times over: `[a, b]` becomes `[a, b, a, b]`.
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
    fn an_id_outside_the_table_never_reaches_a_device() {
        let grid = TokenGrid::new(1, GridSize::new(1, 2), vec![3, 9]).unwrap();
        let error = grid.to_tensor(9, &Device::flex()).unwrap_err();
        assert!(matches!(error, Error::TokenOutOfRange { id: 9, position: 1, limit: 9 }));
    }

    #[test]
    fn smaller_is_never_nothing() {
        let shrunk = |factor| GridSize::new(5, 2).shrunk(factor);
        for (factor, expected) in [(1, [5, 2]), (2, [2, 1]), (3, [1, 1]), (9, [1, 1])] {
            assert_eq!(shrunk(factor).unwrap(), GridSize::new(expected[0], expected[1]));
        }
        assert!(matches!(shrunk(0), Err(Error::Value { .. })));
        assert_eq!(GridSize::new(0, 4).shrunk(2).unwrap(), GridSize::new(0, 2));
    }

    #[test]
    fn a_wrong_number_of_ids_is_an_error() {
        assert!(TokenGrid::new(1, GridSize::new(2, 2), vec![0; 3]).is_err());
    }
}
