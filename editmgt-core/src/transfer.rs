//! Transfers between host and device within a step: few and counted.
//!
//! A read-back waits for all work of a device, and each upload is a call of its driver. So a step
//! puts its small arrays together ([`Upload`]), and reads its results in one piece ([`read_back`]).

use std::cell::Cell;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::{Error, Result};

/// Integers below this are exact in f32.
const EXACT: usize = 1 << 24;

thread_local! {
    static COUNT: Cell<Transfers> = const { Cell::new(Transfers { uploads: 0, read_backs: 0 }) };
}

/// Number of transfers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transfers {
    /// From host to device.
    pub uploads: usize,
    /// From device to host.
    pub read_backs: usize,
}

impl Transfers {
    /// Those of this thread since it started, of this module and of
    /// [`TokenGrid`](crate::TokenGrid). The difference of two calls counts what is between them.
    pub fn so_far() -> Self {
        COUNT.get()
    }

    fn count(change: impl FnOnce(&mut Self)) {
        let mut count = COUNT.get();
        change(&mut count);
        COUNT.set(count);
    }

    pub(crate) fn count_upload() {
        Self::count(|count| count.uploads += 1);
    }

    pub(crate) fn count_read_back() {
        Self::count(|count| count.read_backs += 1);
    }
}

/// Small arrays that go to a device in one transfer, as f32.
///
/// ```
/// use burn::tensor::Device;
/// use editmgt_core::{Transfers, Upload};
///
/// # fn main() -> editmgt_core::Result<()> {
/// let before = Transfers::so_far().uploads;
/// let mut upload = Upload::default();
/// let ids = upload.indices([7, 1, 3, 4])?;
/// let times = upload.floats([0.5, 0.25]);
/// let sent = upload.send(&Device::flex());
/// assert_eq!(sent.indices(ids, [2, 2]).try_into_vec_as::<i32>().unwrap(), [7, 1, 3, 4]);
/// assert_eq!(sent.floats(times, [2]).try_into_vec_as::<f32>().unwrap(), [0.5, 0.25]);
/// assert_eq!(Transfers::so_far().uploads - before, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Upload {
    values: Vec<f32>,
}

/// The place of an array in an [`Upload`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadPart {
    start: usize,
    length: usize,
}

impl Upload {
    /// Adds floats.
    pub fn floats(&mut self, values: impl IntoIterator<Item = f32>) -> UploadPart {
        let start = self.values.len();
        self.values.extend(values);
        UploadPart { start, length: self.values.len() - start }
    }

    /// Adds integers.
    ///
    /// # Errors
    /// [`Error::Value`] for one that is not below 2²⁴, which f32 would round.
    pub fn indices(&mut self, values: impl IntoIterator<Item = usize>) -> Result<UploadPart> {
        let start = self.values.len();
        for value in values {
            if value >= EXACT {
                return Err(Error::value("index or token id", "below 2^24", value));
            }
            self.values.push(value as f32);
        }
        Ok(UploadPart { start, length: self.values.len() - start })
    }

    /// Transfers everything.
    pub fn send(self, device: &Device) -> Uploaded {
        let count = self.values.len();
        if count > 0 {
            Transfers::count_upload();
        }
        let data = TensorData::new(self.values, [count]);
        Uploaded { values: Tensor::from_data(data, (device, DType::F32)) }
    }
}

/// An [`Upload`] on its device.
#[derive(Debug, Clone)]
pub struct Uploaded {
    values: Tensor<1>,
}

impl Uploaded {
    /// An array in f32.
    ///
    /// # Panics
    /// If the shape has another number of elements than the array.
    pub fn floats<const D: usize>(&self, part: UploadPart, shape: [usize; D]) -> Tensor<D> {
        assert_eq!(shape.iter().product::<usize>(), part.length, "the shape must be the array's");
        self.values.clone().narrow(0, part.start, part.length).reshape(shape)
    }

    /// An array in the device's default integer type.
    ///
    /// # Panics
    /// If the shape has another number of elements than the array.
    pub fn indices<const D: usize>(&self, part: UploadPart, shape: [usize; D]) -> Tensor<D, Int> {
        self.floats(part, shape).int()
    }
}

/// Reads a tensor in f32, row-major.
///
/// # Errors
/// [`Error::Device`] if that fails, with `doing` as what was tried.
pub fn read_back<const D: usize>(x: Tensor<D>, doing: &'static str) -> Result<Vec<f32>> {
    Transfers::count_read_back();
    x.cast(DType::F32).try_into_vec_as::<f32>().map_err(|e| Error::device(doing, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_integers_below_the_limit_are_exact() {
        let mut upload = Upload::default();
        upload.floats([0.1; 3]);
        let part = upload.indices([0, 8191, EXACT - 1]).unwrap();
        let sent = upload.clone().send(&Device::flex()).indices(part, [3]);
        assert_eq!(sent.try_into_vec_as::<i64>().unwrap(), [0, 8191, EXACT as i64 - 1]);
        let error = upload.indices([EXACT]).unwrap_err().to_string();
        assert!(error.contains("16777216"), "{error}");
    }

    #[test]
    fn an_empty_upload_is_none() {
        let before = Transfers::so_far();
        Upload::default().send(&Device::flex());
        assert_eq!(Transfers::so_far(), before);
        read_back(Tensor::<1>::zeros([2], &Device::flex()), "reading zeros").unwrap();
        assert_eq!(Transfers::so_far().read_backs, before.read_backs + 1);
    }
}
