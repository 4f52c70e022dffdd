//! The line that shows how far it is; where the error output is no terminal there is none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

/// How often the line is drawn anew. Source: none, calm enough to read.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// A line for one phase. Taken away when dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    drawing: JoinHandle<()>,
}

impl Progress {
    /// Shows `done` of `total` until it is dropped.
    pub(crate) fn show(phase: &'static str, total: u64, done: Arc<AtomicU64>) -> Self {
        let template = "{prefix:<9}{bar:40.cyan/dim} {human_pos:>12} of {human_len} {per_sec:>18}";
        let style = ProgressStyle::with_template(template).expect("the template is well formed");
        let bar = ProgressBar::new(total)
            .with_style(style.progress_chars("━╸─"))
            .with_prefix(phase);
        let line = bar.clone();
        let drawing = tokio::spawn(async move {
            loop {
                line.set_position(done.load(Ordering::Relaxed));
                tokio::time::sleep(DRAW_EVERY).await;
            }
        });
        Self { bar, drawing }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.drawing.abort();
        self.bar.finish_and_clear();
    }
}
