use std::path::Path;

use editmgt::photo::{Photo, PixelSize};
use image::{GrayImage, Luma};

use super::geometry::{check_sizes, edit_of};
use super::hash::{Fingerprint, hex};
use super::row::{Captions, Listing, PairImages};
use super::{Columns, DataError, MaskReading, PairFormat, Skips, formats};
use crate::run::TrainError;
use editmgt_world::EditPair;

/// The pairs of a data set as images in their own size, for editing and comparison.
pub struct PairPhotos {
    listing: Listing,
    columns: Columns,
    mask: MaskReading,
}

impl PairPhotos {
    /// Lists the rows of the data set at `path`. No image is read.
    ///
    /// # Errors
    /// [`TrainError::Io`] for an unreadable data set; [`TrainError::Dataset`] without a usable row.
    pub fn open(
        format: PairFormat,
        path: &Path,
        columns: &Columns,
        mask: MaskReading,
    ) -> Result<Self, TrainError> {
        let listing = formats::list(format, path, columns)?;
        let path = path.to_owned();
        match (listing.rows.is_empty(), listing.skips.total()) {
            (false, _) => Ok(Self { listing, columns: columns.clone(), mask }),
            (true, 0) => Err(DataError::NoRows { path }.into()),
            (true, _) => {
                let skips = listing.skips;
                Err(DataError::NothingLeft { path, part: "evaluation", skips }.into())
            }
        }
    }

    /// Number of rows with valid text, 1 or more.
    pub fn len(&self) -> usize {
        self.listing.rows.len()
    }

    /// Always false: no data set is empty.
    pub fn is_empty(&self) -> bool {
        self.listing.rows.is_empty()
    }

    /// The rows without valid text; they have no index.
    pub fn skips(&self) -> &Skips {
        &self.listing.skips
    }

    /// The name of a row. Panics when `index` is not below [`len`](Self::len).
    pub fn name(&self, index: usize) -> &str {
        &self.listing.rows[index].name
    }

    /// Hash of what is read separately from the images: columns, mask meaning, and the names,
    /// instructions and captions of the rows in order.
    pub fn fingerprint(&self) -> String {
        let read = format!("{:?} {:?}", self.columns, self.mask);
        let mut fingerprint = Fingerprint::default().with(read);
        for row in &self.listing.rows {
            fingerprint.add(&row.name);
            fingerprint.add(&row.instruction);
            fingerprint.add(format!("{:?}", row.captions));
        }
        hex(&fingerprint.bytes::<16>())
    }

    /// The instruction of a row. Panics when `index` is not below [`len`](Self::len).
    pub fn instruction(&self, index: usize) -> &str {
        &self.listing.rows[index].instruction
    }

    /// The captions of a row. Panics when `index` is not below [`len`](Self::len).
    pub fn captions(&self, index: usize) -> &Captions {
        &self.listing.rows[index].captions
    }

    /// The pair of a row, or what is wrong with its images. The mask has the size of the image
    /// before. Panics when `index` is not below [`len`](Self::len).
    ///
    /// # Errors
    /// An unreadable file of many rows.
    pub fn read(&self, index: usize) -> Result<Result<EditPair, String>, TrainError> {
        let row = &self.listing.rows[index];
        let mut pair = Err("its images are missing".to_owned());
        self.listing.pictures.read(&[index], &mut |_, pictures| {
            let checked = pictures.and_then(|pictures| {
                check_sizes(&pictures, false)?;
                Ok(pictures)
            });
            let pictures = checked.map_err(|skip| format!("{}: {}", skip.cause, skip.detail));
            pair = pictures.map(|PairImages { before, after, mask }| EditPair {
                changed: mask.map(|mask| fitted(&mask, before.size(), self.mask)),
                before: before.rgb().clone(),
                instruction: row.instruction.clone(),
                after: after.rgb().clone(),
                category: row.category,
                phrase: None,
            });
            Ok(())
        })?;
        Ok(pair)
    }
}

/// The masked edit (255) resized to the image by nearest neighbour.
fn fitted(mask: &Photo, size: PixelSize, reading: MaskReading) -> GrayImage {
    let is_edit = edit_of(mask, reading);
    let from = mask.size();
    let nearest = |at: u32, size: usize, from: usize| (at as usize * from / size) as u32;
    GrayImage::from_fn(size.width as u32, size.height as u32, |x, y| {
        let (x, y) = (nearest(x, size.width, from.width), nearest(y, size.height, from.height));
        Luma([if is_edit(x, y) { u8::MAX } else { 0 }])
    })
}
