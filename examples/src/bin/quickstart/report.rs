//! The closing table.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use examples::arrivals::Arrivals;

use crate::Args;
use crate::check::Stored;
use crate::place::Place;
use crate::tally::Tally;
use crate::traffic::Traffic;

/// Airports in the chart. Source: none, fits one screen.
const CHART_AIRPORTS: usize = 10;
/// An airport needs one in so many flights to be in the chart, which is 100 of 20,000.
/// Source: none; the mean of fewer says little.
const CHART_FLIGHTS_SHARE: u32 = 200;
/// Width of the longest bar, in characters. Source: none, fits 80 columns.
const CHART_WIDTH: f64 = 44.0;

/// Colours, where the output is a terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    is_terminal: bool,
}

impl Paint {
    pub(crate) fn for_stdout() -> Self {
        Self {
            is_terminal: std::io::stdout().is_terminal(),
        }
    }

    fn with(self, code: &str, text: impl std::fmt::Display) -> String {
        match self.is_terminal {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_string(),
        }
    }

    fn bold(self, text: impl std::fmt::Display) -> String {
        self.with("1", text)
    }

    fn dim(self, text: impl std::fmt::Display) -> String {
        self.with("2", text)
    }

    fn bar(self, text: impl std::fmt::Display) -> String {
        self.with("36", text)
    }

    /// A number that should be 0, but may be more: what is delivered at least once may come twice.
    fn better_zero(self, number: u64) -> String {
        match number {
            0 => self.zero(0),
            _ => format!(
                "{} {}",
                self.with("1;33", format!("{:>8}", thousands(number))),
                self.with("33", "·")
            ),
        }
    }

    /// A number that has to be 0.
    fn zero(self, number: u64) -> String {
        let text = format!("{:>8}", thousands(number));
        match number {
            0 => format!("{} {}", self.bold(text), self.with("32", "✓")),
            _ => format!("{} {}", self.with("1;31", text), self.with("31", "✗")),
        }
    }
}

/// All that is printed in the end.
#[derive(Debug)]
pub(crate) struct Report {
    run: u32,
    airports: usize,
    shards: usize,
    split: Option<String>,
    workers: usize,
    sent: u64,
    delivered: u64,
    processed: u64,
    stored: u64,
    lost: u64,
    duplicated: u64,
    out_of_order: u64,
    processed_again: u64,
    caught_up: u64,
    sent_again: u64,
    duration: Duration,
    p50: Duration,
    p99: Duration,
    aggregates: usize,
    objects: usize,
    stored_in_all: u64,
    chart: Vec<(String, f64)>,
    bucket: PathBuf,
    kept: bool,
}

impl Report {
    pub(crate) fn new(
        place: &Place,
        tally: &Tally,
        traffic: Traffic,
        stored: Stored,
        args: &Args,
    ) -> Self {
        let nothing = Arrivals::default();
        let this_run = stored.runs.get(&place.run()).unwrap_or(&nothing);
        let duration = tally.duration();
        let processed = tally.processed();
        let quantile = |q| Duration::from_micros(processed.latency_micros.value_at_quantile(q));
        Self {
            run: place.run(),
            airports: stored.delays.len(),
            shards: stored.shards,
            split: traffic.split.map(|shard| shard.to_string()),
            workers: processed.workers.len(),
            sent: tally.sent(),
            delivered: tally.delivered(),
            processed: processed.arrivals.distinct() as u64,
            stored: this_run.distinct() as u64,
            lost: this_run.lost(tally.flights()) as u64,
            duplicated: this_run.duplicated(),
            out_of_order: processed
                .arrivals
                .out_of_order()
                .max(this_run.out_of_order()),
            processed_again: stored.processed_again,
            caught_up: stored.caught_up,
            sent_again: traffic.sent_again,
            duration,
            p50: quantile(0.5),
            p99: quantile(0.99),
            aggregates: traffic.aggregates,
            objects: stored.objects,
            stored_in_all: stored.runs.values().map(|run| run.distinct() as u64).sum(),
            chart: chart(&stored),
            bucket: place.bucket_directory(),
            kept: args.keep.is_some(),
        }
    }

    /// Whether every flight is stored, and was processed and stored in the order of its airport.
    pub(crate) fn is_without_fault(&self) -> bool {
        self.lost == 0 && self.out_of_order == 0 && self.processed_again == 0
    }

    pub(crate) fn print(&self, paint: Paint) {
        println!("\n  {}", paint.bold(self.headline()));
        if let Some(split) = &self.split {
            println!("  {}", paint.dim(format!("{split} was split on the way")));
        }
        println!();
        self.print_table(paint);
        if self.duplicated > 0 {
            println!("\n  {}", paint.dim(self.why_duplicated()));
        }
        println!(
            "\n  {}\n",
            paint.dim("minutes late on average, by airport of origin")
        );
        self.print_chart(paint);
        println!();
        if self.run > 1 {
            println!("  {}", self.resumed());
        }
        println!("  objects  {}", self.bucket.display());
        println!("           {}\n", paint.dim(self.hint()));
    }

    fn headline(&self) -> String {
        format!(
            "{} flights from {} airports · {} shards · {}",
            thousands(self.sent),
            self.airports,
            self.shards,
            match self.workers {
                1 => "1 worker".to_owned(),
                workers => format!("{workers} workers"),
            }
        )
    }

    fn print_table(&self, paint: Paint) {
        let per_second = self.processed as f64 / self.duration.as_secs_f64().max(0.001);
        let number = |number| paint.bold(format!("{:>9}", thousands(number)));
        let text = |text| paint.bold(format!("{text:>9}"));
        let rows = [
            (
                "sent",
                self.sent,
                "lost",
                paint.zero(self.lost),
                "records/s",
                number(per_second as u64),
            ),
            (
                "delivered",
                self.delivered,
                "duplicated",
                paint.better_zero(self.duplicated),
                "latency p50",
                text(millis(self.p50)),
            ),
            (
                "processed",
                self.processed,
                "out of order",
                paint.zero(self.out_of_order),
                "latency p99",
                text(millis(self.p99)),
            ),
        ];
        for (stage, count, fault, faults, measure, value) in rows {
            println!(
                "  {stage:<10}{}    {fault:<13}{faults}    {measure:<12}{value}",
                number(count)
            );
        }
        println!(
            "  {:<10}{}    {:<13}{}      {:<12}{}",
            "stored",
            number(self.stored),
            "objects",
            paint.bold(format!("{:>8}", thousands(self.objects as u64))),
            "aggregates",
            number(self.aggregates as u64)
        );
    }

    fn print_chart(&self, paint: Paint) {
        let longest = self
            .chart
            .first()
            .map_or(1.0, |(_, minutes)| minutes.max(1.0));
        for (airport, minutes) in &self.chart {
            let bar = bar(minutes / longest * CHART_WIDTH);
            println!("  {airport}  {} {minutes:.1}", paint.bar(bar));
        }
    }

    fn why_duplicated(&self) -> String {
        match self.sent_again {
            0 => "duplicated: a batch was stored that was not checkpointed any more".to_owned(),
            again => format!(
                "duplicated: {} flights met the split inside an aggregate and were sent again",
                thousands(again)
            ),
        }
    }

    fn resumed(&self) -> String {
        let caught_up = match self.caught_up {
            0 => String::new(),
            flights => format!(", {} left by a run cut short", thousands(flights)),
        };
        format!(
            "run {}    resumed from checkpoints: {} processed again{caught_up}; {} stored in all",
            self.run,
            thousands(self.processed_again),
            thousands(self.stored_in_all)
        )
    }

    fn hint(&self) -> String {
        match self.kept {
            true => "run again with the same --keep to go on from the checkpoints".to_owned(),
            false => "in a temporary directory; --keep DIR keeps and resumes".to_owned(),
        }
    }
}

/// The airports whose flights were latest on average.
fn chart(stored: &Stored) -> Vec<(String, f64)> {
    let flights: u32 = stored.delays.values().map(|(_, flights)| flights).sum();
    let at_least = (flights / CHART_FLIGHTS_SHARE).max(1);
    let mut means: Vec<(String, f64)> = stored
        .delays
        .iter()
        .filter(|(_, (_, flights))| *flights >= at_least)
        .map(|(airport, (minutes, flights))| {
            (airport.clone(), *minutes as f64 / f64::from(*flights))
        })
        .filter(|(_, mean)| *mean > 0.0)
        .collect();
    means.sort_by(|a, b| b.1.total_cmp(&a.1));
    means.truncate(CHART_AIRPORTS);
    means
}

/// A bar of so many characters, to an eighth of one.
fn bar(width: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (width * 8.0).round().max(1.0) as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

/// 1234567 as 1,234,567.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn millis(duration: Duration) -> String {
    match duration.as_millis() {
        millis @ ..10_000 => format!("{millis} ms"),
        millis => format!("{:.1} s", millis as f64 / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (20_000, "20,000"),
            (1_234_567, "1,234,567"),
        ];
        for (number, text) in cases {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn a_bar_is_drawn_to_an_eighth() {
        assert_eq!(
            (bar(2.0).as_str(), bar(1.5).as_str(), bar(0.0).as_str()),
            ("██", "█▌", "▏")
        );
    }
}
