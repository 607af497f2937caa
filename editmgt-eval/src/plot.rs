use plotters::prelude::*;

use crate::{EvalError, Row};

/// Pixels of a panel.
const SIZE: (u32, u32) = (460, 300);
/// Rows whose names fit below the axis of such a panel; with more of them it is twice as wide.
const NARROW: usize = 6;
/// Names below an axis; with more rows than that every second or third has one.
const NAMES: usize = 9;

/// The metrics of which these rows can have a panel: what a change is bought with, and what it
/// costs.
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

/// Means with their 95% intervals, a panel for each metric and a place on its axis for each row,
/// as an SVG that stands for itself.
///
/// # Errors
/// [`EvalError::Plot`] when there is nothing to draw.
pub fn plot(title: &str, rows: &[Row], metrics: &[&str]) -> Result<String, EvalError> {
    let mut svg = String::new();
    let columns = if rows.len() > NARROW { 1 } else { metrics.len().clamp(1, 2) };
    let lines = metrics.len().div_ceil(columns);
    let (width, height) = if rows.len() > NARROW { (2 * SIZE.0, SIZE.1) } else { SIZE };
    let failed = |e: &dyn std::fmt::Display| EvalError::Plot(format!("{title}: {e}"));
    if metrics.is_empty() || rows.is_empty() {
        return Err(failed(&"expected rows and metrics, got none"));
    }
    {
        let area =
            SVGBackend::with_string(&mut svg, (columns as u32 * width, lines as u32 * height));
        let root = area.into_drawing_area();
        root.fill(&WHITE).map_err(|e| failed(&e))?;
        for (area, metric) in root.split_evenly((lines, columns)).iter().zip(metrics) {
            panel(area, title, rows, metric).map_err(|e| failed(&e))?;
        }
        root.present().map_err(|e| failed(&e))?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn panel(
    area: &Area<'_>,
    title: &str,
    rows: &[Row],
    metric: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let points: Vec<(f64, [f64; 3])> = (0..)
        .zip(rows)
        .filter_map(|(place, row)| {
            let estimate = row.metrics.get(metric)?;
            Some((f64::from(place), [estimate.low, estimate.mean, estimate.high]))
        })
        .collect();
    let lowest = points.iter().map(|(_, values)| values[0]).fold(f64::INFINITY, f64::min);
    let highest = points.iter().map(|(_, values)| values[2]).fold(f64::NEG_INFINITY, f64::max);
    // From 0 on, so that a small difference looks small; and never an axis of no length.
    let lowest = lowest.min(0.0);
    let highest = if highest > lowest { highest } else { lowest + 1.0 };
    let room = 0.05 * (highest - lowest);
    let last = rows.len() as f64 - 1.0;
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .caption(format!("{title}: {metric}"), ("sans-serif", 15))
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d(-0.5..last + 0.5, lowest..highest + room)?;
    let name = |x: &f64| {
        let near = (x - x.round()).abs() < 1e-6 && (0.0..=last).contains(&x.round());
        if near { rows[x.round() as usize].group.clone() } else { String::new() }
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .max_light_lines(0)
        .x_labels(if rows.len() > NAMES { NAMES } else { 2 * rows.len() + 1 })
        .x_label_formatter(&name)
        .label_style(("sans-serif", 12))
        .draw()?;
    let style = RGBColor(31, 90, 160).stroke_width(2);
    chart.draw_series(points.iter().map(|&(x, [low, mean, high])| {
        ErrorBar::new_vertical(x, low, mean, high, style.filled(), 9)
    }))?;
    Ok(())
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
    fn many_rows_have_room_and_rows_of_zeros_an_axis() {
        let many = plot("layers", &rows(8), &["success", "other"]).unwrap();
        assert!(many.starts_with("<svg width=\"920\" height=\"600\""), "{many}");
        assert!((0..8).all(|i| many.contains(&format!("row &lt;{i}&gt;"))), "{many}");
        let zeros = plot("hold", &rows(1), &["success"]).unwrap();
        assert!(zeros.contains("1.0"), "{zeros}");
    }

    #[test]
    fn nothing_to_draw_is_an_error() {
        for error in [plot("a", &[], &["success"]), plot("a", &rows(1), &[])] {
            assert!(error.unwrap_err().to_string().starts_with("a: expected rows and metrics"));
        }
    }
}
