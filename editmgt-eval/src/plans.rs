use editmgt::StepPlan;
use editmgt_diagnostics::bench::PlanTime;
use plotters::prelude::*;

use crate::EvalError;
use crate::plot::{Area, Drawn, SIZE, drawn};

/// The colours of the plans, in their order.
const COLOURS: [RGBColor; 5] = [
    RGBColor(31, 90, 160),
    RGBColor(200, 80, 20),
    RGBColor(20, 130, 70),
    RGBColor(130, 50, 140),
    RGBColor(120, 120, 0),
];

/// Plots the seconds of edits against the share of the canvas that they edit, a line per step plan,
/// beside the line of the exact plan, for which the share makes no difference: a panel for each
/// dtype and size, in the order of `times`, as a self-contained SVG.
///
/// # Errors
/// [`EvalError::Plot`] when there is nothing to draw.
pub fn plot_plans(times: &[PlanTime]) -> Result<String, EvalError> {
    let of = |time: &PlanTime| (time.dtype, time.size);
    let panels: Vec<&[PlanTime]> = times.chunk_by(|a, b| of(a) == of(b)).collect();
    let columns = panels.len().clamp(1, 2);
    let rows = panels.len().div_ceil(columns);
    let size = (columns as u32 * SIZE.0, rows as u32 * SIZE.1);
    drawn("plans", times.is_empty(), size, |root| {
        for (area, times) in root.split_evenly((rows, columns)).iter().zip(&panels) {
            panel(area, times)?;
        }
        Ok(())
    })
}

/// The lines of one dtype and size.
fn panel(area: &Area<'_>, times: &[PlanTime]) -> Drawn {
    let first = times.first().ok_or("expected times, got none")?;
    let title =
        format!("seconds of an edit, {}x{}, {}", first.size, first.size, first.dtype.name());
    let highest = times.iter().map(|time| time.seconds).fold(0.0, f64::max);
    let widest = times.iter().map(|time| f64::from(time.share)).fold(0.0, f64::max);
    let end = 100.0 * widest;
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .caption(title, ("sans-serif", 15))
        .x_label_area_size(36)
        .y_label_area_size(56)
        // Room for the names of the plans.
        .build_cartesian_2d(0.0..1.45 * end, 0.0..1.08 * highest)?;
    let label = |x: &f64| format!("{x:.0}");
    chart
        .configure_mesh()
        .disable_x_mesh()
        .max_light_lines(0)
        .x_desc("edited, % of the canvas")
        .x_label_formatter(&label)
        .y_label_formatter(&label)
        .label_style(("sans-serif", 12))
        .draw()?;
    let mut plans: Vec<StepPlan> = Vec::new();
    for time in times {
        if !plans.contains(&time.plan) {
            plans.push(time.plan);
        }
    }
    for (&plan, &colour) in plans.iter().zip(COLOURS.iter().cycle()) {
        let of_plan = times.iter().filter(|time| time.plan == plan);
        let mut points: Vec<(f64, f64)> =
            of_plan.map(|time| (100.0 * f64::from(time.share), time.seconds)).collect();
        if let (StepPlan::Exact, [(_, seconds), ..]) = (plan, &points[..]) {
            points = vec![(0.0, *seconds), (end, *seconds)];
        }
        points.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let last = points.last().copied().ok_or("a plan without a time")?;
        chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?;
        if plan != StepPlan::Exact {
            chart.draw_series(points.iter().map(|&at| Circle::new(at, 3, colour.filled())))?;
        }
        let (x, y) = chart.as_coord_spec().translate(&last);
        let style = ("sans-serif", 12).into_font().color(&colour);
        area.draw_text(&plan.to_string(), &style, (x + 7, y - 6))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use editmgt::Dtype;

    use super::*;

    fn time(size: usize, plan: StepPlan, share: f32, seconds: f64) -> PlanTime {
        PlanTime::new(Dtype::F32, size, plan, share, seconds)
    }

    #[test]
    fn each_size_has_a_panel_with_a_line_for_each_plan() {
        let cached = StepPlan::cached(8);
        let of = |size| {
            [(StepPlan::Exact, 0.05, 100.0), (cached, 0.15, 40.0), (cached, 0.05, 30.0)]
                .map(|(plan, share, seconds)| time(size, plan, share, seconds))
        };
        let svg = plot_plans(&[of(512), of(1024)].concat()).unwrap();
        for text in ["512x512, f32", "1024x1024, f32", "edited, % of the canvas"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        for text in ["exact", "cached:8"] {
            assert_eq!(svg.matches(text).count(), 2, "{text}: {svg}");
        }
        assert_eq!(svg.matches("<circle").count(), 4);
        // The points of a line are drawn from left to right, whatever their order.
        let line = svg.split("points=\"").nth(2).unwrap().split('"').next().unwrap();
        let places: Vec<f64> = line
            .split_whitespace()
            .map(|point| point.split(',').next().unwrap().parse().unwrap())
            .collect();
        assert!(places.is_sorted(), "{line}");
    }

    #[test]
    fn nothing_is_an_error() {
        let error = plot_plans(&[]).unwrap_err().to_string();
        assert!(error.contains("plans"), "{error}");
    }
}
