//! Progress bars. Where the output is no terminal there are none.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::tally::Tally;

/// How far the flights have come.
#[derive(Debug)]
pub(crate) struct Bars {
    all: MultiProgress,
    delivered: ProgressBar,
    processed: ProgressBar,
    stored: ProgressBar,
}

impl Bars {
    pub(crate) fn new(flights: u32) -> Self {
        let all = MultiProgress::new();
        let bar = |name: &'static str| {
            let style =
                ProgressStyle::with_template("  {prefix:<10}{bar:50.cyan/dim} {human_pos:>10}")
                    .expect("the template is well formed")
                    .progress_chars("━╸─");
            all.add(
                ProgressBar::new(flights.into())
                    .with_style(style)
                    .with_prefix(name),
            )
        };
        Self {
            delivered: bar("delivered"),
            processed: bar("processed"),
            stored: bar("stored"),
            all: all.clone(),
        }
    }

    pub(crate) fn show(&self, tally: &Tally, stored: u64) {
        self.delivered.set_position(tally.delivered());
        self.processed
            .set_position(tally.processed().arrivals.distinct() as u64);
        self.stored.set_position(stored);
    }

    /// Takes the bars away: the report has their numbers.
    pub(crate) fn finish(&self) {
        for bar in [&self.delivered, &self.processed, &self.stored] {
            bar.finish_and_clear();
        }
        // An error only means that the terminal went away.
        self.all.clear().ok();
    }
}
