use std::fmt;

use super::{DtypePrecision, EditOutcome, PrecisionReport};

impl fmt::Display for PrecisionReport {
    /// A row per number, a column per dtype.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.dtypes.first() else {
            return write!(f, "{} computes in f32 only", self.device);
        };
        let rows = NUMBERS.iter().map(|(name, value)| {
            ((*name).to_owned(), self.dtypes.iter().map(value).collect::<Vec<_>>())
        });
        let edits = (0..first.edits.len()).map(|edit| {
            let of = |half: &DtypePrecision| outcome(&half.edits[edit].outcome);
            let name = format!("edit {}: {}", edit + 1, first.edits[edit].instruction);
            (name, self.dtypes.iter().map(of).collect())
        });
        let rows: Vec<_> = rows.chain(edits).collect();
        let wide = |cells: &mut dyn Iterator<Item = &str>| {
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let name_width = wide(&mut rows.iter().map(|(name, _)| &name[..]));
        let width = wide(&mut rows.iter().flat_map(|(_, cells)| cells).map(|cell| &cell[..]));

        write!(f, "{:name_width$}", "beside f32")?;
        for half in &self.dtypes {
            write!(f, "  {:>width$}", half.name())?;
        }
        for (name, cells) in rows {
            write!(f, "\n{name:name_width$}")?;
            for cell in cells {
                write!(f, "  {cell:>width$}")?;
            }
        }
        let failed = self.dtypes.iter().flat_map(|half| {
            let edits = half.edits.iter().enumerate();
            edits.filter_map(move |(at, edit)| match &edit.outcome {
                EditOutcome::Failed { error } => Some((half.name(), at + 1, error)),
                EditOutcome::Done { .. } => None,
            })
        });
        for (dtype, edit, error) in failed {
            write!(f, "\nedit {edit} in {dtype}: {error}")?;
        }
        Ok(())
    }
}

type Number = (&'static str, fn(&DtypePrecision) -> String);

/// Errors are in units of the root mean square of f32's values.
const NUMBERS: [Number; 10] = [
    ("text features: error, root mean square", |half| small(half.text.relative_rms)),
    ("text features: largest error", |half| small(half.text.relative_max)),
    ("logits: error, root mean square", |half| small(half.transformer.error.relative_rms)),
    ("logits: largest error", |half| small(half.transformer.error.relative_max)),
    ("logits: most likely code is the same", |half| {
        format!("{:.2}%", 100.0 * half.transformer.same_best)
    }),
    ("logits: Kullback-Leibler divergence, nats", |half| {
        half.transformer.divergence.map_or_else(|| "-".to_owned(), small)
    }),
    ("attention: largest error, share of its range", |half| small(half.attention)),
    ("infinite or NaN", |half| {
        let error = half.transformer.error.not_finite + half.text.not_finite;
        (error + half.codec.decoded_not_finite).to_string()
    }),
    ("codec in this dtype: tokens that differ", |half| {
        format!("{} of {}", half.codec.tokens_differ, half.codec.tokens)
    }),
    ("codec in this dtype: PSNR of the image", |half| match half.codec.decoded_psnr {
        Some(psnr) => format!("{psnr:.1} dB"),
        None if half.codec.decoded_not_finite > 0 => "no image".to_owned(),
        None => "equal".to_owned(),
    }),
];

fn small(error: f64) -> String {
    format!("{error:.1e}")
}

fn outcome(outcome: &EditOutcome) -> String {
    match outcome {
        EditOutcome::Done { tokens, tokens_differ, pixels_differ_by } => {
            format!("{tokens_differ} of {tokens} tokens, {pixels_differ_by} levels")
        }
        EditOutcome::Failed { .. } => "FAILED".to_owned(),
    }
}
