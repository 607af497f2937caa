//! Image preparation: `in{i}` `[H, W, 3]` bytes of square photos, `out{i}` `[3, h, w]` the codec's
//! input, `micro{i}` `[5]` the micro-conditions. `in{i}.png` has the same photos as files.

use burn::tensor::Device;
use editmgt::{Photo, PixelSize, ResizePlan, photo::RgbImage};
use editmgt_core::{Error, MicroConditions};

use super::{Comparison, GoldenFolder, VerifyError};

/// One grey level of 256 (with its rounding to f32), on all but 1 in 1000 values.
const ONE_LEVEL: f64 = 1.0 / 255.0 + 1e-6;
const MAY_EXCEED: f64 = 1e-3;

pub(super) fn verify(
    folder: &GoldenFolder,
    device: &Device,
) -> Result<Vec<Comparison>, VerifyError> {
    let mut comparisons = Vec::new();
    for name in folder.names() {
        let Some(case) = name.strip_prefix("in") else { continue };
        let malformed = |what| VerifyError::golden(folder.dir().join("golden.safetensors"), what);

        let input = folder.ints(&name)?;
        let (height, width) = match input.shape[..] {
            [height, width, 3] if height == width => (height, width),
            _ => return Err(malformed(format!("{name}: not [side, side, 3]: {:?}", input.shape))),
        };
        let bytes: Vec<u8> = input.values.iter().map(|&value| value as u8).collect();
        let file = folder.dir().join(format!("{name}.png"));
        if file.is_file() {
            let photo = Photo::open(file).map_err(VerifyError::component)?;
            comparisons.push(Comparison::decisions(name.clone(), photo.rgb(), &bytes));
        }

        let expected = folder.floats(&format!("out{case}"))?;
        let [3, rows, columns] = expected.shape[..] else {
            return Err(malformed(format!("out{case}: not [3, h, w]: {:?}", expected.shape)));
        };
        let rgb = RgbImage::from_raw(width as u32, height as u32, bytes)
            .ok_or_else(|| malformed(format!("{name}: too large")))?;
        let photo = Photo::from_rgb(rgb).map_err(VerifyError::component)?;
        // The golden sizes are for another codec; any multiple works here.
        let plan = ResizePlan::exact(photo.size(), PixelSize::new(rows, columns), 1)?;
        let got = plan
            .apply(&photo, device)?
            .try_into_vec_as::<f32>()
            .map_err(|e| Error::device("reading a prepared photo", e))?;
        let name = expected.name;
        comparisons.push(Comparison::mostly(name, &got, &expected.values, ONE_LEVEL, MAY_EXCEED));

        let micro = folder.floats(&format!("micro{case}"))?;
        let got = MicroConditions::uncropped(height, width).values();
        comparisons.push(Comparison::values(micro.name, &got, &micro.values, 0.0));
    }
    Ok(comparisons)
}
