//! The results as a table, and as docs/benchmarks.md.

use super::scenario::{Scenario, Side, Target, Unit};
use super::{Effort, SETTINGS};

/// The rounds of one scenario.
pub(crate) struct Line {
    scenario: &'static Scenario,
    baseline: Vec<f64>,
    ours: Vec<f64>,
    second: Vec<f64>,
}

impl Line {
    pub(crate) fn new(scenario: &'static Scenario) -> Self {
        Self { scenario, baseline: Vec::new(), ours: Vec::new(), second: Vec::new() }
    }

    /// Adds one round.
    pub(crate) fn add(&mut self, baseline: Option<f64>, ours: f64, second: Option<f64>) {
        self.baseline.extend(baseline);
        self.second.extend(second);
        self.ours.push(ours);
    }

    /// The ratio of each round: both sides of a round met the same machine.
    fn ratios(&self) -> Vec<f64> {
        self.ours.iter().zip(&self.baseline).map(|(ours, baseline)| ours / baseline).collect()
    }

    /// The median of the rounds' ratios.
    fn ratio(&self) -> Option<f64> {
        median(self.ratios())
    }

    /// The least and the greatest ratio: far apart, the machine was busy with something else.
    fn spread(&self) -> String {
        let ratios = self.ratios();
        match (ratios.iter().copied().min_by(f64::total_cmp), ratios.iter().copied().max_by(f64::total_cmp)) {
            (Some(least), Some(greatest)) => format!("{least:.2} .. {greatest:.2}"),
            _ => String::new(),
        }
    }

    /// The median ratio to the second side.
    fn second_ratio(&self) -> Option<f64> {
        median(self.ours.iter().zip(&self.second).map(|(ours, second)| ours / second).collect())
    }

    fn row(&self) -> [String; 8] {
        let unit = self.scenario.work.unit();
        let value =
            |values: &[f64]| median(values.to_vec()).map_or_else(String::new, |value| shown(value, unit));
        let ratio = self.ratio();
        let judged = if self.scenario.baseline.is_some() { ratio } else { median(self.ours.clone()) };
        let (target, reached) = self.scenario.target.map_or((String::new(), None), |target| {
            let (sign, bound) = match target {
                Target::AtLeast(least) => (">=", least),
                Target::AtMost(most) => ("<=", most),
            };
            let bound =
                if self.scenario.baseline.is_some() { format!("{bound:.2}") } else { shown(bound, unit) };
            (format!("{sign} {bound}"), judged.map(|value| target.is_met(value)))
        });
        [
            self.scenario.name.to_owned(),
            value(&self.baseline),
            value(&self.ours),
            ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            self.spread(),
            target,
            reached.map_or("", |reached| if reached { "met" } else { "missed" }).to_owned(),
            self.second_ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}")),
        ]
    }

    /// What the drawing shows of it: its name, the ratio and the target; `None` for what is not compared with the plain table.
    pub(crate) fn bar(&self) -> Option<Bar> {
        self.scenario.baseline.filter(|side| *side == Side::Plain)?;
        Some(Bar { name: self.scenario.name, ratio: self.ratio()?, target: self.scenario.target })
    }
}

/// One bar of the drawing.
pub(crate) struct Bar {
    pub(crate) name: &'static str,
    pub(crate) ratio: f64,
    pub(crate) target: Option<Target>,
}

/// A value with its unit.
fn shown(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Rate => format!("{}/s", grouped(value.round() as u64)),
        Unit::Milliseconds => format!("{value:.1} ms"),
        Unit::Microseconds => format!("{value:.1} µs"),
        Unit::Bytes => format!("{value:.0} B"),
        Unit::Mebibytes => format!("{value:.1} MiB"),
    }
}

/// The results as a table.
pub(crate) fn table(lines: &[Line]) -> String {
    let head = ["scenario", "plain", "measured", "ratio", "of the rounds", "target", "", "to CHECKs"]
        .map(str::to_owned);
    markdown(&std::iter::once(head).chain(lines.iter().map(Line::row)).collect::<Vec<_>>())
}

/// A Markdown table that reads well as plain text; the first row is its head, the first column its names.
pub(crate) fn markdown<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [3; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            text += &if column == 0 { format!("| {cell:<width$} ") } else { format!("| {cell:>width$} ") };
        }
        text += "|\n";
        if index == 0 {
            for (column, width) in widths.into_iter().enumerate() {
                text += &if column == 0 {
                    format!("|{}", "-".repeat(width + 2))
                } else {
                    format!("|{}:", "-".repeat(width + 1))
                };
            }
            text += "|\n";
        }
    }
    text
}

/// The text of docs/benchmarks.md.
pub(crate) fn document(table: &str, instructions: &str, machine: &str, effort: &Effort) -> String {
    let settings: Vec<String> = SETTINGS.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    format!(
        include_str!("document.md"),
        table = table,
        instructions = instructions,
        machine = machine,
        rounds = effort.rounds,
        seconds = effort.seconds,
        rows = grouped(effort.rows.into()),
        large = grouped(effort.large),
        huge = grouped(effort.huge),
        settings = settings.join(", "),
    )
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        return values.get(middle).copied();
    }
    Some((values.get(middle.checked_sub(1)?)? + values.get(middle)?) / 2.0)
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::scenario::SCENARIOS;
    use super::*;

    #[test]
    fn the_ratio_is_the_median_of_the_rounds_and_not_of_the_sides() {
        let mut line = Line::new(&SCENARIOS[0]);
        // The machine was three times slower in the second round, for both.
        for (baseline, ours) in [(300.0, 288.0), (100.0, 96.0), (300.0, 30.0)] {
            line.add(Some(baseline), ours, None);
        }
        assert_eq!(line.ratio(), Some(0.96));
        assert_eq!(line.row()[4], "0.10 .. 0.96");
        assert_eq!(line.row()[6], "met");
    }

    #[test]
    fn medians_of_odd_even_and_no_values() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn numbers_are_grouped_for_reading() {
        assert_eq!(
            ["1", "12", "123", "1,234", "1,234,567"],
            [1, 12, 123, 1234, 1_234_567].map(grouped).each_ref().map(String::as_str)
        );
    }

    #[test]
    fn every_line_of_the_table_has_its_columns() {
        let mut line = Line::new(&SCENARIOS[0]);
        line.add(Some(10.0), 9.0, Some(3.0));
        let text = table(&[line]);
        assert!(text.lines().all(|line| line.matches('|').count() == 9), "{text}");
    }
}
