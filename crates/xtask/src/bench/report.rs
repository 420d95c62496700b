//! The results as a table, and as docs/benchmarks.md.

use super::scenario::Scenario;
use super::{Effort, SETTINGS};

/// The rounds of one scenario.
pub(crate) struct Line {
    scenario: &'static Scenario,
    baseline: Vec<f64>,
    ours: Vec<f64>,
}

impl Line {
    pub(crate) fn new(scenario: &'static Scenario) -> Self {
        Self { scenario, baseline: Vec::new(), ours: Vec::new() }
    }

    /// Adds one round.
    pub(crate) fn add(&mut self, baseline: Option<f64>, ours: f64) {
        self.baseline.extend(baseline);
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

    fn row(&self) -> [String; 7] {
        let rate = |rates: &[f64]| {
            median(rates.to_vec()).map_or_else(String::new, |rate| grouped(rate.round() as u64))
        };
        let ratio = self.ratio();
        let (target, reached) = match (self.scenario.target, self.scenario.baseline) {
            (None, _) => (String::new(), None),
            (Some(target), Some(_)) => (format!(">= {target:.2}"), ratio.map(|ratio| ratio >= target)),
            (Some(target), None) => (
                format!(">= {}/s", grouped(target.round() as u64)),
                median(self.ours.clone()).map(|rate| rate >= target),
            ),
        };
        [
            self.scenario.name.to_owned(),
            rate(&self.baseline),
            rate(&self.ours),
            ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            self.spread(),
            target,
            reached.map_or("", |reached| if reached { "met" } else { "missed" }).to_owned(),
        ]
    }
}

/// A Markdown table that reads well as plain text.
pub(crate) fn table(lines: &[Line]) -> String {
    let head = ["scenario", "plain, events/s", "measured, events/s", "ratio", "of the rounds", "target", ""]
        .map(str::to_owned);
    let rows: Vec<[String; 7]> = std::iter::once(head).chain(lines.iter().map(Line::row)).collect();
    let mut widths = [3; 7];
    for row in &rows {
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
pub(crate) fn document(table: &str, machine: &str, effort: &Effort) -> String {
    let settings: Vec<String> = SETTINGS.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    format!(
        "# Benchmarks\n\n\
         Made by `cargo xtask bench`, which writes this file.\n\n\
         {table}\n\
         - *plain* is the same table: columns, CHECKs and both indexes of `audit_events`, without the triggers. Its hash columns are\n  \
         filled by constants of the same length, its `seq` by a sequence.\n\
         - *measured* is `audit_events`; in the lines named PL/pgSQL it is the plain table with a trigger that locks a head row per\n  \
         tenant and calls `sha256()`, which is what one writes without the extension.\n\
         - The sides take turns on one server. Rates are medians of {rounds} rounds, the ratio is the median of the rounds' ratios,\n  \
         whose least and greatest stand beside it: far apart, the machine was busy with something else.\n  \
         Every round starts from an empty table, and from a checkpoint.\n\
         - inserts: pgbench, prepared single-row inserts, {seconds} s a round. INSERT .. SELECT, COPY and audit_verify_all: {rows} events.\n\n\
         ## Machine\n\n{machine}\
         - settings: {settings}; fsync and synchronous_commit on, as they are by default\n",
        rounds = effort.rounds,
        seconds = effort.seconds,
        rows = grouped(effort.rows.into()),
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
fn grouped(number: u64) -> String {
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
        for (baseline, ours) in [(300.0, 270.0), (100.0, 90.0), (300.0, 30.0)] {
            line.add(Some(baseline), ours);
        }
        assert_eq!(line.ratio(), Some(0.9));
        assert_eq!(line.row()[4], "0.10 .. 0.90");
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
        line.add(Some(10.0), 9.0);
        let text = table(&[line]);
        assert!(text.lines().all(|line| line.matches('|').count() == 8), "{text}");
    }
}
