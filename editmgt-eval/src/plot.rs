use std::error::Error;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use crate::{EvalError, Row};

/// Size of a panel in pixels.
pub(crate) const SIZE: (u32, u32) = (460, 300);
/// Row count whose names fit below the axis of a panel; above it the panel is twice as wide.
const NARROW: usize = 6;
/// Most names below an axis; with more rows only every second or third is labelled.
const NAMES: usize = 9;

/// The metrics of which these rows can have a panel: gains and costs of an edit.
pub fn plotted(rows: &[Row]) -> Vec<&'static str> {
    let wanted = [
        "success",
        "l1_inside",
        "l1",
        "tokens_changed_outside",
        "pixels_changed_outside",
        "score_iou",
    ];
    let has = |metric: &&str| rows.iter().any(|row| row.metrics.contains_key(*metric));
    wanted.into_iter().filter(has).collect()
}

/// Plots means with their 95% intervals, a panel per metric and an axis position per row, as a
/// self-contained SVG.
///
/// # Errors
/// [`EvalError::Plot`] when there is nothing to draw.
pub fn plot(title: &str, rows: &[Row], metrics: &[&str]) -> Result<String, EvalError> {
    let columns = if rows.len() > NARROW { 1 } else { metrics.len().clamp(1, 2) };
    let lines = metrics.len().div_ceil(columns);
    let (width, height) = if rows.len() > NARROW { (2 * SIZE.0, SIZE.1) } else { SIZE };
    let size = (columns as u32 * width, lines as u32 * height);
    let last = rows.len() as f64 - 1.0;
    let name = |x: f64| {
        let near = (x - x.round()).abs() < 1e-6 && (0.0..=last).contains(&x.round());
        if near { rows[x.round() as usize].group.clone() } else { String::new() }
    };
    drawn(title, metrics.is_empty() || rows.is_empty(), size, |root| {
        for (area, metric) in root.split_evenly((lines, columns)).iter().zip(metrics) {
            let points = points(rows, metric, (0..rows.len()).map(|place| place as f64));
            let axis = Axis {
                range: -0.5..last + 0.5,
                title: None,
                labels: if rows.len() > NAMES { NAMES } else { 2 * rows.len() + 1 },
                label: &name,
            };
            panel(area, &format!("{title}: {metric}"), &points, axis)?;
        }
        Ok(())
    })
}

/// Plots the mean of one metric with its 95% interval against a number of each row, such as its
/// cost: a self-contained SVG, each point labelled with the row's name.
///
/// # Errors
/// [`EvalError::Plot`] when there is nothing to draw.
pub fn plot_against(
    title: &str,
    rows: &[Row],
    metric: &str,
    (axis, places): (String, &[f64]),
) -> Result<String, EvalError> {
    drawn(title, rows.is_empty(), (2 * SIZE.0, SIZE.1), |root| {
        let end = places.iter().copied().fold(0.0, f64::max);
        let axis = Axis {
            range: 0.0..if end > 0.0 { 1.1 * end } else { 1.0 },
            title: Some(axis),
            labels: NAMES,
            label: &|x| format!("{x:.1}"),
        };
        let points = points(rows, metric, places.iter().copied());
        let coordinates = panel(root, &format!("{title}: {metric}"), &points, axis)?;
        for (row, &place) in rows.iter().zip(places) {
            let Some(estimate) = row.metrics.get(metric) else { continue };
            let (x, y) = coordinates.translate(&(place, estimate.mean));
            root.draw_text(&row.group, &("sans-serif", 12).into_text_style(root), (x + 7, y - 6))?;
        }
        Ok(())
    })
}

pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(crate) type Drawn = Result<(), Box<dyn Error>>;

/// Draws an SVG of this size by `draw`, unless there is `nothing` to draw.
pub(crate) fn drawn(
    title: &str,
    nothing: bool,
    size: (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Drawn,
) -> Result<String, EvalError> {
    let mut svg = String::new();
    let failed = |e: &dyn std::fmt::Display| EvalError::Plot(format!("{title}: {e}"));
    if nothing {
        return Err(failed(&"expected rows and metrics, got none"));
    }
    {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE).map_err(|e| failed(&e))?;
        draw(&root).map_err(|e| failed(&e))?;
        root.present().map_err(|e| failed(&e))?;
    }
    Ok(svg)
}

/// The axis position, lower end, mean and upper end of each row that has the metric.
fn points(rows: &[Row], metric: &str, places: impl Iterator<Item = f64>) -> Vec<(f64, [f64; 3])> {
    let placed = places.zip(rows);
    placed
        .filter_map(|(place, row)| {
            let estimate = row.metrics.get(metric)?;
            Some((place, [estimate.low, estimate.mean, estimate.high]))
        })
        .collect()
}

/// The axis below a panel.
pub(crate) struct Axis<'a> {
    pub(crate) range: Range<f64>,
    pub(crate) title: Option<String>,
    /// Most labels.
    pub(crate) labels: usize,
    pub(crate) label: &'a dyn Fn(f64) -> String,
}

pub(crate) type Coordinates = Cartesian2d<RangedCoordf64, RangedCoordf64>;

/// Draws the points, and returns the mapping of coordinates.
pub(crate) fn panel(
    area: &Area<'_>,
    caption: &str,
    points: &[(f64, [f64; 3])],
    axis: Axis<'_>,
) -> Result<Coordinates, Box<dyn Error>> {
    let lowest = points.iter().map(|(_, values)| values[0]).fold(f64::INFINITY, f64::min);
    let highest = points.iter().map(|(_, values)| values[2]).fold(f64::NEG_INFINITY, f64::max);
    // Starts at 0, so that a small difference looks small; never of zero length.
    let lowest = lowest.min(0.0);
    let highest = if highest > lowest { highest } else { lowest + 1.0 };
    let room = 0.05 * (highest - lowest);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .caption(caption, ("sans-serif", 15))
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d(axis.range, lowest..highest + room)?;
    let label = |x: &f64| (axis.label)(*x);
    let mut mesh = chart.configure_mesh();
    if let Some(title) = axis.title {
        mesh.x_desc(title);
    }
    mesh.disable_x_mesh()
        .max_light_lines(0)
        .x_labels(axis.labels)
        .x_label_formatter(&label)
        .label_style(("sans-serif", 12))
        .draw()?;
    drop(mesh);
    let style = RGBColor(31, 90, 160).stroke_width(2);
    chart.draw_series(points.iter().map(|&(x, [low, mean, high])| {
        ErrorBar::new_vertical(x, low, mean, high, style.filled(), 9)
    }))?;
    Ok(chart.as_coord_spec().clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::record;

    fn rows(n: u64) -> Vec<Row> {
        (0..n)
            .map(|i| Row::of(format!("row <{i}>"), &[record(0, None, 0.1 * i as f64)], 0))
            .collect()
    }

    #[test]
    fn a_plot_shows_every_row_and_its_name() {
        let rows = rows(3);
        assert_eq!(plotted(&rows), ["success"]);
        let svg = plot("hold", &rows, &["success", "other"]).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
        for text in ["hold: success", "hold: other", "row &lt;0&gt;", "row &lt;2&gt;"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        // An error bar ends in a dot at its mean.
        assert_eq!(svg.matches("<circle").count(), 6);
        assert_eq!(plot("hold", &rows, &["success", "other"]).unwrap(), svg);
        assert_eq!(plot("hold", &rows[..1], &["other"]).unwrap().matches("<circle").count(), 1);
    }

    #[test]
    fn plots_many_rows_and_rows_of_zeros() {
        let many = plot("layers", &rows(8), &["success", "other"]).unwrap();
        assert!(many.starts_with("<svg width=\"920\" height=\"600\""), "{many}");
        assert!((0..8).all(|i| many.contains(&format!("row &lt;{i}&gt;"))), "{many}");
        let zeros = plot("hold", &rows(1), &["success"]).unwrap();
        assert!(zeros.contains("1.0"), "{zeros}");
    }

    #[test]
    fn rows_stand_where_their_numbers_are() {
        let axis = || ("time, × that of 8".to_owned(), &[0.5, 1.0, 2.0][..]);
        let svg = plot_against("steps", &rows(3), "success", axis()).unwrap();
        assert_eq!(svg.matches("<circle").count(), 3);
        for text in ["steps: success", "time, × that of 8", "row &lt;1&gt;"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        let centres: Vec<f64> = svg
            .split("<circle cx=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
            .collect();
        // The second distance is twice the first, to a pixel.
        let (first, second) = (centres[1] - centres[0], centres[2] - centres[1]);
        assert!(first > 0.0 && (second - 2.0 * first).abs() <= 2.0, "{centres:?}");
    }

    #[test]
    fn nothing_to_draw_is_an_error() {
        for error in [plot("a", &[], &["success"]), plot("a", &rows(1), &[])] {
            assert!(error.unwrap_err().to_string().starts_with("a: expected rows and metrics"));
        }
    }
}
