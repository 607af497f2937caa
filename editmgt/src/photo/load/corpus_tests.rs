//! Unusual but valid files of independent encoders, against the pixels of an independent decoder:
//! `testdata/corpus/`, made by `scripts/make_decode_corpus.py`.

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Expect {
    Exact,
    Within,
    /// A valid file of an unsupported kind, which the message names.
    Refused,
    /// A truncated file.
    Damaged,
}

#[derive(Deserialize)]
struct Row {
    file: String,
    expect: Expect,
    pixels: Option<String>,
    max: Option<u8>,
    mean: Option<f64>,
    reason: Option<String>,
    named: Option<String>,
}

fn corpus() -> std::path::PathBuf {
    std::env::var_os("EDITMGT_CORPUS").map_or_else(|| "testdata/corpus".into(), Into::into)
}

/// Largest and mean difference of visible colours and of opacity, or a mismatch of the shape.
fn difference(photo: &Photo, expected: &DynamicImage) -> Result<(u8, f64), String> {
    let expected_size = PixelSize::new(expected.height() as usize, expected.width() as usize);
    if photo.size() != expected_size {
        return Err(format!("{} pixels, not {expected_size}", photo.size()));
    }
    let expected = expected.to_rgba8();
    let (mut max, mut sum, mut count) = (0, 0_u64, 0_u64);
    for (x, y, pixel) in expected.enumerate_pixels() {
        let [r, g, b] = photo.rgb().get_pixel(x, y).0;
        let opacity = photo.alpha().map_or(255, |alpha| alpha.get_pixel(x, y).0[0]);
        // Hidden pixels have no defined colour.
        let visible = if pixel.0[3] == 0 { 3 } else { 0 };
        for (got, expected) in [r, g, b, opacity].iter().zip(pixel.0).skip(visible) {
            max = max.max(got.abs_diff(expected));
            sum += u64::from(got.abs_diff(expected));
            count += 1;
        }
    }
    Ok((max, sum as f64 / count as f64))
}

/// The format's name in messages.
fn message_format(file: &str) -> &'static str {
    if file.starts_with("jpeg") { "JPEG" } else { "TIFF" }
}

fn check(row: &Row) -> Result<(), String> {
    let bytes = std::fs::read(corpus().join(&row.file)).map_err(|e| e.to_string())?;
    let photo = match (Photo::from_bytes(&bytes), &row.expect) {
        (Err(error @ PhotoError::Unsupported { .. }), Expect::Refused) => {
            let (message, named) = (error.to_string(), row.named.as_deref().ok_or("named")?);
            let what = format!("got a {} with {named}", message_format(&row.file));
            return if message.contains(&what) && message.contains("save it as") {
                Ok(())
            } else {
                Err(format!("expected {what:?} in: {message}"))
            };
        }
        (Err(PhotoError::Corrupt { .. }), Expect::Damaged) => return Ok(()),
        (Ok(_), Expect::Refused | Expect::Damaged) => return Err("is read".into()),
        (Err(error), _) => return Err(error.to_string()),
        (Ok(photo), _) => photo,
    };
    let pixels = row.pixels.as_ref().ok_or("has no pixels")?;
    let expected = image::open(corpus().join(pixels)).map_err(|e| e.to_string())?;
    let (max, mean) = difference(&photo, &expected)?;
    let bound = match row.expect {
        Expect::Within => (row.max.ok_or("max")?, row.mean.ok_or("mean")?),
        _ => (0, 0.0),
    };
    if max <= bound.0 && mean <= bound.1 {
        Ok(())
    } else {
        Err(format!("differs by up to {max}, {mean:.3} on average; allowed {bound:?}"))
    }
}

#[test]
fn every_file_of_the_corpus_is_decoded_right_or_refused() {
    let manifest = std::fs::read(corpus().join("manifest.json")).unwrap();
    let rows: Vec<Row> = serde_json::from_slice(&manifest).unwrap();
    assert!(rows.len() > 300, "{} rows", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        assert!(matches!(row.expect, Expect::Exact) || row.reason.is_some(), "{}", row.file);
        let checked = std::panic::catch_unwind(|| check(row));
        if let Err(error) = checked.unwrap_or(Err("panics".into())) {
            wrong.push(format!("{}: {error}", row.file));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
