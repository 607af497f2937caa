//! Measures the composite by visible change: its policies, its thresholds, and how it looks.
//!
//! ```text
//! cargo run --release -p editmgt-eval --example composite -- policies CODEC SPLIT N
//! cargo run --release -p editmgt-eval --example composite -- thresholds CODEC SPLIT N
//! cargo run --release -p editmgt-eval --example composite -- drift CODEC SPLIT N
//! cargo run --release -p editmgt-eval --example composite -- faint SPLIT N
//! cargo run --release -p editmgt-eval --example composite -- sheet OUT.png SCENES PHOTO...
//! ```
//!
//! `CODEC` is `local` (the small model as it is) or a simulation of another one: `local-synonyms`
//! (half of the tokens come out as near-synonyms), `global-weak`, `global` and `global-strong`
//! (also the decoded image drifts, by about 1.5, 3 and 6 levels of 255, as with norms over the
//! whole image). `SPLIT` is `validation` or `test`. Prints tables in Markdown.
#![forbid(unsafe_code)]

mod edited;
mod sheet;
mod simulated;

use std::path::Path;

use editmgt::photo::ChangeThresholds;
use editmgt::{CompositePolicy, Editor, HoldPolicy};
use editmgt_eval::Estimate;
use editmgt_world::{Category, Split, World, WorldConfig, trial};

use edited::{Edited, IdealEdit, Measured, Outcome, Simulation, edit, request};

/// Scenes whose composites are compared with those of [`Editor::edit`], so that the tables are
/// about what users get.
const COMPARED: u64 = 8;

/// How thresholds follow from the codec's noise: limits within which it counts.
const NOISE_LIMITS: [(&str, f32, f32); 4] =
    [("1", 1.0, 1.0), ("1 to 2", 1.0, 2.0), ("1 to 4", 1.0, 4.0), ("2", 2.0, 2.0)];

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let world = World::new(WorldConfig::embedded())?;
    match args[..] {
        ["policies", codec, split, n] => policies(&world, codec, split.parse()?, n.parse()?),
        ["thresholds", codec, split, n] => thresholds(&world, codec, split.parse()?, n.parse()?),
        ["drift", codec, split, n] => drift(&world, codec, split.parse()?, n.parse()?),
        ["faint", split, n] => faint(&world, split.parse()?, n.parse()?),
        ["sheet", out, scenes, ref photos @ ..] => {
            sheet::write(&world, Path::new(out), scenes.parse()?, photos)
        }
        _ => Err("usage: composite policies|thresholds|drift CODEC SPLIT N, \
                  composite faint SPLIT N, or composite sheet OUT.png SCENES PHOTO..."
            .into()),
    }
}

/// The small model's own hold policy, and none.
fn holds() -> [(&'static str, Option<HoldPolicy>); 2] {
    [("auto", None), ("off", Some(HoldPolicy::Off))]
}

fn policies(world: &World, codec: &str, split: Split, n: u64) -> Outcome<()> {
    let simulation = Simulation::named(codec)?;
    let editor = simulation.editor()?;
    println!(
        "| hold | composite | success | local edits | background | style | pixels outside | PSNR outside | L1 inside |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (hold_name, hold) in holds() {
        let mut rows = ["all", "held", "visible"].map(|name| (name, Vec::new()));
        for index in 0..n {
            let edited = edit(&editor, world, (split, index), &hold)?;
            let change = edited.visible(ChangeThresholds::new(edited.noise, simulation.is_local()));
            let visible = edited.composite(&change.mask()?)?;
            if index < COMPARED {
                let request = request(&hold).composite(CompositePolicy::Visible);
                let (.., own) = trial(&editor, world, (split, index), &request)?;
                if own.image.rgb() != &visible {
                    return Err(format!("scene {index}: the editor composites otherwise").into());
                }
            }
            let images = [edited.result.image.rgb().clone(), edited.held()?, visible];
            for ((_, row), image) in rows.iter_mut().zip(&images) {
                row.push(edited.measure(world, image)?);
            }
        }
        for (name, row) in &rows {
            println!("| {hold_name} | {name} | {} |", cells(row));
        }
    }
    Ok(())
}

/// A row of a table.
fn cells(row: &[Measured]) -> String {
    let success = |keep: &dyn Fn(&Measured) -> bool| {
        percent(row.iter().filter(|m| keep(m)).map(|m| f64::from(u8::from(m.success))), 1)
    };
    let local = || row.iter().filter(|m| m.is_local());
    [
        success(&|_| true),
        success(&Measured::is_local),
        success(&|m| m.category == Category::Background),
        success(&|m| m.category == Category::Style),
        percent(local().filter_map(|m| m.pixels_outside), 2),
        number(local().filter_map(|m| m.psnr_outside), 1) + " dB",
        number(row.iter().filter_map(|m| m.l1_inside), 4),
    ]
    .join(" | ")
}

fn percent(values: impl Iterator<Item = f64>, digits: usize) -> String {
    let values: Vec<f64> = values.map(|value| 100.0 * value).collect();
    let Some(Estimate { mean, low, high, .. }) = Estimate::of(&values, 0) else {
        return "-".to_owned();
    };
    format!("{mean:.digits$}% [{low:.digits$}, {high:.digits$}]")
}

fn number(values: impl Iterator<Item = f64>, digits: usize) -> String {
    let values: Vec<f64> = values.collect();
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    format!("{mean:.digits$}")
}

/// Thresholds in units of the codec's noise within limits.
struct Setting {
    from: f32,
    until: f32,
    token: f32,
    of_contrast: Option<[f32; 2]>,
    limits: (&'static str, f32, f32),
}

impl Setting {
    fn thresholds(&self, noise: f32) -> ChangeThresholds {
        let (_, least, most) = self.limits;
        let unit = noise.clamp(least, most);
        ChangeThresholds {
            from: self.from * unit,
            until: self.until * unit,
            token: self.token * unit,
            of_contrast: self.of_contrast,
        }
    }

    /// `from` and `until` over a grid, then the other values with the chosen ones.
    fn all(local: bool) -> Vec<Self> {
        let ChangeThresholds { from, until, token, of_contrast } =
            ChangeThresholds::new(1.0, local);
        let chosen = || Self { from, until, token, of_contrast, limits: NOISE_LIMITS[1] };
        let mut all = Vec::new();
        for from in [2.0, 4.0, 8.0] {
            for until in [8.0, 16.0, 32.0] {
                if from < until {
                    all.push(Self { from, until, ..chosen() });
                }
            }
        }
        all.extend(NOISE_LIMITS.map(|limits| Self { limits, ..chosen() }));
        if local {
            let shares = [[0.05, 0.1], [0.08, 0.16], [0.1, 0.2], [0.1, 0.3], [0.15, 0.3]];
            let shares = shares.into_iter().map(Some);
            all.extend(
                [None]
                    .into_iter()
                    .chain(shares)
                    .map(|of_contrast| Self { of_contrast, ..chosen() }),
            );
        }
        let tokens = if local { [4.0, 8.0, 16.0, 255.0] } else { [1.0, 2.0, 6.0, 8.0] };
        all.extend(tokens.map(|token| Self { token, ..chosen() }));
        all
    }
}

fn thresholds(world: &World, codec: &str, split: Split, n: u64) -> Outcome<()> {
    let simulation = Simulation::named(codec)?;
    let editor = simulation.editor()?;
    println!(
        "| hold | from | until | token | of the contrast | noise counts as | success | local edits | background | style | pixels outside | PSNR outside | L1 inside |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    let settings = Setting::all(simulation.is_local());
    for (hold_name, hold) in holds() {
        let mut rows: Vec<Vec<Measured>> = settings.iter().map(|_| Vec::new()).collect();
        for index in 0..n {
            let edited = edit(&editor, world, (split, index), &hold)?;
            for (setting, row) in settings.iter().zip(&mut rows) {
                let change = edited.visible(setting.thresholds(edited.noise)).mask()?;
                row.push(edited.measure(world, &edited.composite(&change)?)?);
            }
        }
        for (Setting { from, until, token, of_contrast, limits }, row) in settings.iter().zip(&rows)
        {
            let of_contrast =
                of_contrast.map_or("-".to_owned(), |[from, until]| format!("{from}, {until}"));
            println!(
                "| {hold_name} | {from} | {until} | {token} | {of_contrast} | {} | {} |",
                limits.0,
                cells(row)
            );
        }
    }
    Ok(())
}

/// What a codec's faults are, and what the note about put back pixels goes by.
fn drift(world: &World, codec: &str, split: Split, n: u64) -> Outcome<()> {
    let editor = Simulation::named(codec)?.editor()?;
    let mut all = Vec::new();
    for index in 0..n {
        let edited = edit(&editor, world, (split, index), &Some(HoldPolicy::Off))?;
        all.push((faults(&edited), noted(&editor, world, (split, index))?, edited));
    }
    println!(
        "codec {codec}, {n} scenes, nothing held; quartiles (25%, 50%, 75%), then the maximum"
    );
    println!();
    println!("| | 25% | 50% | 75% | 100% |");
    println!("|---|---|---|---|---|");
    let local = |edited: &Edited| {
        !matches!(edited.example.category, Category::Background | Category::Style)
    };
    let outside: Vec<&Faults> = all.iter().filter(|(.., e)| local(e)).map(|(f, ..)| f).collect();
    quartiles("codec's noise, levels", all.iter().map(|(.., e)| f64::from(e.noise)));
    quartiles("tokens outside that differ", outside.iter().map(|f| f.tokens));
    quartiles("mean change outside, levels", outside.iter().map(|f| f.change));
    println!();
    println!(
        "| category | tokens changed: 25% | 50% | 75% | invisible: 25% | 50% | 75% | 100% | noted |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for category in Category::ALL {
        let of: Vec<&Noted> = all
            .iter()
            .filter(|(.., e)| e.example.category == category)
            .map(|(_, n, _)| n)
            .collect();
        let [a, b, c, _] = quantiles(of.iter().map(|n| n.tokens));
        let [d, e, f, g] = quantiles(of.iter().map(|n| n.invisible));
        let noted = of.iter().filter(|n| n.noted).count();
        println!(
            "| {} | {a:.2} | {b:.2} | {c:.2} | {d:.2} | {e:.2} | {f:.2} | {g:.2} | {noted} of {} |",
            category.name(),
            of.len()
        );
    }
    Ok(())
}

/// What changes outside the true edit without being asked for.
struct Faults {
    /// Share of the tokens without a pixel of the true change whose id differs.
    tokens: f64,
    /// Mean over the pixels of the largest difference of a channel to the photo after the codec,
    /// levels of 255.
    change: f64,
}

fn faults(edited: &Edited) -> Faults {
    let result = &edited.result;
    let size = result.tokens.size();
    let changed = edited.example.pair.changed.as_ref();
    let touched = match changed {
        Some(mask) => editmgt_world::touched(mask, size),
        None => vec![true; size.len()],
    };
    let ids = result.tokens.ids().iter().zip(result.reference.ids()).zip(&touched);
    let outside: Vec<bool> =
        ids.filter(|(_, touched)| !**touched).map(|((a, b), _)| a != b).collect();
    let mut change = Vec::new();
    let pixels = result.image.rgb().enumerate_pixels().zip(edited.decoded_photo.pixels());
    for ((x, y, a), b) in pixels {
        if changed.is_some_and(|mask| mask.get_pixel(x, y).0[0] == 0) {
            let largest = a.0.iter().zip(b.0).map(|(&a, b)| a.abs_diff(b)).max();
            change.push(f64::from(largest.unwrap_or_default()));
        }
    }
    let mean = |sum: f64, n: usize| sum / n.max(1) as f64;
    Faults {
        tokens: mean(outside.iter().filter(|&&differs| differs).count() as f64, outside.len()),
        change: mean(change.iter().sum(), change.len()),
    }
}

/// What a note about put back pixels goes by, from a report.
struct Noted {
    tokens: f64,
    invisible: f64,
    noted: bool,
}

fn noted(editor: &Editor, world: &World, at: (Split, u64)) -> Outcome<Noted> {
    let request = request(&Some(HoldPolicy::Off)).composite(CompositePolicy::Visible);
    let (.., result) = trial(editor, world, at, &request)?;
    let ids = result.tokens.ids().iter().zip(result.reference.ids());
    let tokens = ids.filter(|(a, b)| a != b).count() as f64 / result.tokens.ids().len() as f64;
    let composite = &result.report.composite;
    let invisible = f64::from(composite.put_back.invisible);
    Ok(Noted { tokens, invisible, noted: composite.note.is_some() })
}

/// Faint edits of the whole image: red rises and blue falls by a number of levels of 255, and the
/// codec gives the tokens of both images.
fn faint(world: &World, split: Split, n: u64) -> Outcome<()> {
    let editor = Editor::embedded().build()?;
    println!("| levels | tokens changed: 25% | 50% | 75% | invisible: 25% | 50% | 75% | 100% |");
    println!("|---|---|---|---|---|---|---|---|");
    for levels in [2, 4, 6, 8, 12, 16, 24, 32] {
        let (mut tokens, mut invisible) = (Vec::new(), Vec::new());
        for index in 0..n {
            let before = world.pair(split, index).pair.before;
            let mut after = before.clone();
            for pixel in after.pixels_mut() {
                let [red, green, blue] = pixel.0;
                pixel.0 = [red.saturating_add(levels), green, blue.saturating_sub(levels)];
            }
            let ideal = IdealEdit::new(&editor, before, after)?;
            let change = ideal.change(&editor)?.mask()?;
            let ids: Vec<bool> = ideal.ids_differ().collect();
            tokens.push(share(ids.iter().copied()));
            let columns = ideal.plan.token_columns(ideal.tokens.size().width);
            let rows = ideal.plan.token_rows(ideal.tokens.size().height);
            let width = columns.len();
            invisible.push(share(change.weights().iter().enumerate().map(|(i, &weight)| {
                let token = rows[i / width].zip(columns[i % width]);
                let token = token.map(|(row, column)| row * ideal.tokens.size().width + column);
                weight == 0 && token.is_some_and(|token| ids[token])
            })));
        }
        let [a, b, c, _] = quantiles(tokens.into_iter());
        let [d, e, f, g] = quantiles(invisible.into_iter());
        println!("| {levels} | {a:.2} | {b:.2} | {c:.2} | {d:.2} | {e:.2} | {f:.2} | {g:.2} |");
    }
    Ok(())
}

fn share(flags: impl Iterator<Item = bool>) -> f64 {
    let (mut set, mut all) = (0u32, 0u32);
    for flag in flags {
        set += u32::from(flag);
        all += 1;
    }
    f64::from(set) / f64::from(all.max(1))
}

fn quantiles(values: impl Iterator<Item = f64>) -> [f64; 4] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = |share: usize| {
        let last = values.len().saturating_sub(1);
        values.get(share * last / 4).copied().unwrap_or(f64::NAN)
    };
    [at(1), at(2), at(3), at(4)]
}

fn quartiles(name: &str, values: impl Iterator<Item = f64>) {
    let [a, b, c, d] = quantiles(values);
    println!("| {name} | {a:.2} | {b:.2} | {c:.2} | {d:.2} |");
}
