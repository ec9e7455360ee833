//! Pictures as SVG.

use std::ops::Range;

use anyhow::Result;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use crate::report::{Plot, Series};

const SIZE: (u32, u32) = (640, 360);

/// Easy to tell apart, also without red and green (Okabe and Ito).
const COLORS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Nothing when there is nothing to see.
pub(crate) fn svg(plot: &Plot) -> Result<Option<String>> {
    let is_seen = |(x, y): &(f64, f64)| *x > 0.0 && (*y > 0.0 || !plot.is_log);
    let points = || {
        plot.series
            .iter()
            .flat_map(|series| &series.points)
            .filter(|point| is_seen(point))
    };
    let Some(x) = range(points().map(|point| point.0)) else {
        return Ok(None);
    };
    let Some(y) = range(points().map(|point| point.1)) else {
        return Ok(None);
    };
    let series = plot.series.iter().map(|series| Series {
        name: series.name.clone(),
        points: series.points.iter().copied().filter(is_seen).collect(),
    });
    let series: Vec<Series> = series.collect();
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        // A single value is in the middle; the highest has room for the legend.
        let x = x.start / 1.2..x.end * 1.2;
        if plot.is_log {
            // Whole decades, so that the axis has numbers.
            let decade = |value: f64| 10_f64.powf(value);
            let y = decade(y.start.log10().floor())..decade((y.end * 2.0).log10().ceil());
            draw(&area, plot, &series, x, y.log_scale())?;
        } else {
            draw(&area, plot, &series, x, 0.0..(y.end * 1.3).max(f64::MIN_POSITIVE))?;
        }
        area.present()?;
    }
    Ok(Some(svg))
}

fn range(values: impl Iterator<Item = f64>) -> Option<Range<f64>> {
    values.fold(None, |range: Option<Range<f64>>, value| {
        Some(range.map_or(value..value, |range| range.start.min(value)..range.end.max(value)))
    })
}

fn draw<Y>(area: &Area<'_>, plot: &Plot, series: &[Series], x: Range<f64>, y: Y) -> Result<()>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(&plot.title, ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(x.log_scale(), y)?;
    chart
        .configure_mesh()
        .x_desc(&plot.x)
        .y_desc(&plot.y)
        .x_label_formatter(&|value| short(*value))
        .y_label_formatter(&|value| short(*value))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (line, color) in series.iter().zip(COLORS.iter().cycle()) {
        let stroke = color.stroke_width(2);
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), stroke))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], stroke));
        let dots = line.points.iter().map(|point| Circle::new(*point, 2, color.filled()));
        chart.draw_series(dots)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}

/// A number as an axis shows it.
fn short(value: f64) -> String {
    let (value, unit) = match value {
        1e6.. => (value / 1e6, "M"),
        1e3.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    // As few digits as there are.
    let value = (value * 100.0).round() / 100.0;
    format!("{value}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_shows_its_lines_and_no_markup_of_others() {
        for is_log in [false, true] {
            let mut plot = Plot::new("a < b", "x", "y");
            plot.is_log = is_log;
            plot.line("first", [(1.0, 2.0), (10.0, 3.0), (0.0, 1.0)]);
            plot.line("second", [(5.0, 5.0)]);
            let svg = svg(&plot).unwrap().unwrap();
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
            assert!(svg.contains("a &lt; b") && svg.contains("second"));
        }
    }

    #[test]
    fn nothing_to_see_is_no_picture() {
        let mut plot = Plot::new("empty", "x", "y").log();
        plot.line("below", [(0.0, 1.0), (1.0, 0.0)]);
        assert!(svg(&plot).unwrap().is_none());
    }

    #[test]
    fn axes_show_short_numbers() {
        assert_eq!(
            [0.0, 0.5, 10.0, 1500.0, 2e6].map(short),
            ["0", "0.5", "10", "1.5k", "2M"]
        );
    }
}
