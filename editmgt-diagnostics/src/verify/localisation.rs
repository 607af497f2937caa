//! Recomputes recorded score maps.

use editmgt_core::{
    AttentionConsolidator, AttentionMaps, GridSize, HoldRequest, RegionHold, ScoreMap,
};
use editmgt_sampler::{Consolidator, Filter, HoldThreshold, Smoothing};

use super::{Comparison, GoldenFolder, VerifyError};

/// A few f32 roundings of numbers up to 1.
const TOLERANCE: f64 = 1e-5;

pub(super) fn verify(folder: &GoldenFolder) -> Result<Vec<Comparison>, VerifyError> {
    let mut comparisons = Vec::new();
    if folder.has("raw") {
        comparisons.push(aggregate(folder, "agg_all", None)?);
        let rows: Vec<usize> = folder.meta("/keyword_rows")?;
        comparisons.push(aggregate(folder, "agg_keyword", Some(&rows))?);
    }
    for name in folder.names() {
        if let Some((source, what)) = name.split_once('.') {
            comparisons.push(derived(folder, &name, source, what)?);
        }
    }
    Ok(comparisons)
}

/// `raw` is `[layers, 2, heads, rows, cells]`. The model averages heads and rows; their mean is
/// taken here likewise.
fn aggregate(
    folder: &GoldenFolder,
    name: &str,
    rows: Option<&[usize]>,
) -> Result<Comparison, VerifyError> {
    let raw = folder.floats("raw")?;
    let [layers, halves, heads, all_rows, cells] = raw.shape[..] else {
        return Err(malformed(folder, format!("raw: expected rank 5, got {:?}", raw.shape)));
    };
    let all: Vec<usize> = (0..all_rows).collect();
    let rows = rows.unwrap_or(&all);
    if rows.iter().any(|&row| row >= all_rows) || rows.is_empty() {
        return Err(malformed(folder, format!("keyword_rows {rows:?} of {all_rows}")));
    }
    let mut values = Vec::with_capacity(layers * cells);
    for layer in 0..layers {
        // The conditional half is last.
        let half = (layer * halves + halves - 1) * heads;
        values.extend((0..cells).map(|cell| {
            let of_head =
                |head| rows.iter().map(move |row| ((half + head) * all_rows + row) * cells + cell);
            let sum: f64 = (0..heads).flat_map(of_head).map(|i| f64::from(raw.values[i])).sum();
            (sum / (heads * rows.len()) as f64) as f32
        }));
    }
    let maps = AttentionMaps::new((0..layers).collect(), 1, square(cells), values)?;
    let plain = Consolidator::parity().with_rescale(false).with_smoothing(None);
    let expected = folder.floats(name)?.values;
    let got = plain.consolidate(&maps, maps.size())?;
    Ok(Comparison::values(name, got.values(), &expected, TOLERANCE))
}

/// One tensor `source.what`, computed from the map `source`.
fn derived(
    folder: &GoldenFolder,
    name: &str,
    source: &str,
    what: &str,
) -> Result<Comparison, VerifyError> {
    let values = folder.floats(source)?.values;
    let size = square(values.len());
    let maps = AttentionMaps::new(vec![0], 1, size, values)?;
    let official = Consolidator::parity();

    if let Some(hold) = what.strip_prefix("hold") {
        let numbers = hold.split_once("_t").and_then(|(side, threshold)| {
            Some((side.parse::<usize>().ok()?, threshold.parse::<f32>().ok()?))
        });
        let Some((side, threshold)) = numbers else {
            return Err(malformed(folder, format!("{name}: expected hold<side>_t<threshold>")));
        };
        let scores = official.consolidate(&maps, GridSize::new(side, side))?;
        let held = HoldThreshold::new(threshold)?.hold(&HoldRequest::first(&scores, None))?;
        let held: Vec<i64> = held.held().iter().map(|&held| held.into()).collect();
        return Ok(Comparison::decisions(name, &held, &folder.ints(name)?.values));
    }

    let expected = folder.floats(name)?.values;
    let (consolidator, target) = match what {
        "rescaled" => (official.with_smoothing(None), size),
        "upsampled" => (official, square(expected.len())),
        _ => match smoothing(what) {
            Some(smoothing) => (official.with_smoothing(Some(smoothing)), size),
            None => return Err(malformed(folder, format!("{name}: unknown kind of map"))),
        },
    };
    let got: ScoreMap = consolidator.consolidate(&maps, target)?;
    Ok(Comparison::values(name, got.values(), &expected, TOLERANCE))
}

/// `adaptive_s0p7_nopeak`: filter, strength with a `p` for the point, peaks not preserved.
fn smoothing(what: &str) -> Option<Smoothing> {
    let (filter, rest) = what.split_once("_s")?;
    let filter = match filter {
        "adaptive" => Filter::Adaptive,
        "gaussian" => Filter::Gaussian,
        "bilateral" => Filter::Bilateral,
        "morphology" => Filter::Morphology,
        _ => return None,
    };
    let (strength, preserve_peaks) = match rest.strip_suffix("_nopeak") {
        Some(strength) => (strength, false),
        None => (rest, true),
    };
    let strength = strength.replace('p', ".").parse().ok()?;
    Some(Smoothing::new(filter, strength).ok()?.with_preserve_peaks(preserve_peaks))
}

/// The recorded maps are lists; the official code treats square counts as squares.
fn square(cells: usize) -> GridSize {
    let side = cells.isqrt();
    if side * side == cells { GridSize::new(side, side) } else { GridSize::new(cells, 1) }
}

fn malformed(folder: &GoldenFolder, message: String) -> VerifyError {
    VerifyError::golden(folder.dir().join("golden.safetensors"), message)
}
