//! The ratios as a drawing.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::report::Bar;
use super::scenario::Target;

const WIDTH: u32 = 980;
const ROW: u32 = 34;
const OURS: RGBColor = RGBColor(38, 110, 168);
const MISSED: RGBColor = RGBColor(200, 90, 60);
const OTHERS: RGBColor = RGBColor(150, 150, 150);

/// Draws one bar for each ratio to `path`: the plain table is the line at 1, the target the mark across the bar.
pub(crate) fn draw(path: &Path, bars: &[Bar]) -> Result<()> {
    // plotters' errors borrow the backend, which ends here.
    render(path, bars).map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))
}

fn render(path: &Path, bars: &[Bar]) -> Result<(), Box<dyn std::error::Error>> {
    let rows = bars.len() as i32;
    let root = SVGBackend::new(path, (WIDTH, ROW * (bars.len() as u32 + 3))).into_drawing_area();
    root.fill(&WHITE)?;
    let longest = bars.iter().map(|bar| bar.ratio).fold(1.1, f64::max);
    let mut chart = ChartBuilder::on(&root)
        .caption("Against the same table without the extension", ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(390)
        .build_cartesian_2d(0.0..longest * 1.05, (0..rows).into_segmented())?;
    let name = |row: &SegmentValue<i32>| match row {
        // There is a label more than there are bars.
        SegmentValue::CenterOf(row) => usize::try_from(rows - 1 - row)
            .ok()
            .and_then(|index| bars.get(index))
            .map_or_else(String::new, |bar| bar.name.to_owned()),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(bars.len())
        .y_label_formatter(&name)
        .x_desc("ratio to the plain table")
        .label_style(("sans-serif", 14))
        .draw()?;
    for (index, bar) in bars.iter().enumerate() {
        let row = rows - 1 - index as i32;
        let edge = SegmentValue::Exact;
        let colour = match bar.target {
            None => OTHERS,
            Some(target) if target.is_met(bar.ratio) => OURS,
            Some(_) => MISSED,
        };
        let mut body = Rectangle::new([(0.0, edge(row)), (bar.ratio, edge(row + 1))], colour.filled());
        body.set_margin(6, 6, 0, 0);
        chart.draw_series([body])?;
        if let Some(Target::AtLeast(mark) | Target::AtMost(mark)) = bar.target {
            chart.draw_series([PathElement::new(
                [(mark, edge(row)), (mark, edge(row + 1))],
                BLACK.stroke_width(2),
            )])?;
        }
        let label = format!("{:.2}", bar.ratio);
        let middle = SegmentValue::CenterOf(row);
        let style = ("sans-serif", 14).into_font().color(&BLACK);
        chart.draw_series([Text::new(label, (bar.ratio.max(target_of(bar)) + 0.015, middle), style)])?;
    }
    let line = [(1.0, SegmentValue::Exact(0)), (1.0, SegmentValue::Exact(rows))];
    chart.draw_series([PathElement::new(line, BLACK.mix(0.4))])?;
    root.present()?;
    Ok(())
}

fn target_of(bar: &Bar) -> f64 {
    match bar.target {
        Some(Target::AtLeast(mark) | Target::AtMost(mark)) => mark,
        None => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_is_in_the_drawing_with_its_name_and_ratio() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chart.svg");
        let bars = [
            Bar { name: "first", ratio: 0.91, target: Some(Target::AtLeast(0.9)) },
            Bar { name: "second", ratio: 1.42, target: Some(Target::AtMost(1.3)) },
            Bar { name: "third", ratio: 0.17, target: None },
        ];
        draw(&path, &bars).unwrap();
        let svg = std::fs::read_to_string(path).unwrap().to_uppercase();
        for expected in ["FIRST", "SECOND", "THIRD", "0.91", "1.42", "0.17", "#266EA8", "#C85A3C", "#969696"]
        {
            assert!(svg.contains(expected), "{expected} is not in the drawing");
        }
    }
}
