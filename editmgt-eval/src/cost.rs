use editmgt_diagnostics::bench::{EditCost, EditLoad};

use crate::EvalError;
use crate::plot::{Axis, SIZE, drawn, panel};

const MIB: f64 = (1 << 20) as f64;

type Part = (&'static str, fn(&EditLoad) -> usize, fn(&mut EditLoad) -> &mut usize);

/// The load parameters that are varied.
const PARTS: [Part; 4] = [
    ("side of the image, pixels", |load| load.size, |load| &mut load.size),
    ("steps", |load| load.steps, |load| &mut load.steps),
    ("images per batch", |load| load.batch, |load| &mut load.batch),
    ("blocks whose attention is captured", |load| load.layers, |load| &mut load.layers),
];

/// Plots how the cost of edits grows with each load parameter, as a self-contained SVG: a row of
/// panels per parameter, with the seconds of the whole batch (median, fastest and slowest) on the
/// left and the peak memory in MiB on the right. The first cost is the baseline: a panel shows the
/// costs that differ from it in its parameter only.
///
/// # Errors
/// [`EvalError::Plot`] when there is nothing to draw.
pub fn plot_costs(title: &str, costs: &[EditCost]) -> Result<String, EvalError> {
    let columns = 1 + usize::from(costs.iter().any(|cost| cost.peak_memory_bytes.is_some()));
    let size = (columns as u32 * SIZE.0, PARTS.len() as u32 * SIZE.1);
    drawn(title, costs.is_empty(), size, |root| {
        let areas = root.split_evenly((PARTS.len(), columns));
        for (areas, part) in areas.chunks(columns).zip(PARTS) {
            let curve = curve(costs, part);
            let end = curve.iter().map(|(x, _)| *x).fold(1.0, f64::max);
            let axis = || Axis {
                range: 0.0..1.08 * end,
                title: Some(part.0.to_owned()),
                labels: 9,
                label: &|x| format!("{x:.0}"),
            };
            let seconds = curve
                .iter()
                .map(|(x, cost)| (*x, [cost.min_seconds, cost.median_seconds, cost.max_seconds]));
            panel(&areas[0], &format!("{title}: seconds"), &seconds.collect::<Vec<_>>(), axis())?;
            let Some(area) = areas.get(1) else { continue };
            let memory = curve
                .iter()
                .filter_map(|(x, cost)| Some((*x, [cost.peak_memory_bytes? as f64 / MIB; 3])));
            panel(
                area,
                &format!("{title}: peak memory, MiB"),
                &memory.collect::<Vec<_>>(),
                axis(),
            )?;
        }
        Ok(())
    })
}

/// The costs that differ from the first in one parameter only, and the first, sorted by that
/// parameter.
fn curve(costs: &[EditCost], (_, value, part): Part) -> Vec<(f64, &EditCost)> {
    let Some(base) = costs.first() else { return Vec::new() };
    let rest = |load: &EditLoad| {
        let mut load = *load;
        *part(&mut load) = 0;
        load
    };
    let same = costs.iter().filter(|cost| rest(&cost.load) == rest(&base.load));
    let mut curve: Vec<_> = same.map(|cost| (value(&cost.load) as f64, cost)).collect();
    curve.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    curve
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(size: usize, steps: usize, memory: Option<u64>) -> EditCost {
        let seconds = (size * steps) as f64 / 100.0;
        EditCost {
            load: EditLoad { size, steps, batch: 1, layers: 2 },
            median_seconds: seconds,
            min_seconds: 0.9 * seconds,
            max_seconds: 1.5 * seconds,
            cpu_seconds: None,
            peak_memory_bytes: memory,
        }
    }

    #[test]
    fn panel_shows_costs_that_differ_in_one_parameter() {
        let costs: Vec<_> = [(64, 4), (128, 4), (32, 4), (64, 2), (128, 2)]
            .map(|(size, steps)| cost(size, steps, Some(5 << 20)))
            .into();
        let of = |part| {
            let curve = curve(&costs, PARTS[part]);
            curve.into_iter().map(|(x, _)| x).collect::<Vec<_>>()
        };
        assert_eq!(of(0), [32.0, 64.0, 128.0]);
        assert_eq!(of(1), [2.0, 4.0]);
        assert_eq!((of(2), of(3)), (vec![1.0], vec![2.0]));

        let svg = plot_costs("small model", &costs).unwrap();
        // A dot for each point of each curve, for time and for memory.
        assert_eq!(svg.matches("<circle").count(), 2 * (3 + 2 + 1 + 1));
        for (name, ..) in PARTS {
            assert_eq!(svg.matches(name).count(), 2, "{name}: {svg}");
        }
        assert!(svg.contains("small model: seconds") && svg.contains("peak memory, MiB"), "{svg}");
    }

    #[test]
    fn plot_without_memory_has_only_time() {
        let svg = plot_costs("small model", &[cost(64, 4, None)]).unwrap();
        assert_eq!(svg.matches("<circle").count(), PARTS.len());
        assert!(!svg.contains("memory"), "{svg}");
        assert!(plot_costs("small model", &[]).is_err());
    }
}
