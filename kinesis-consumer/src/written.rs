//! The log of a test, as written.

use std::io::Write;
use std::sync::{Arc, Mutex};

use tracing::Dispatch;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// What this thread logs while the guard of [`Written::begin`] is kept.
#[derive(Clone, Default)]
pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    pub(crate) fn begin() -> (Self, (DefaultGuard, Dispatch)) {
        let written = Self::default();
        // Where there is one subscriber in a process, tracing asks that of the thread which comes to a place
        // first, and other tests' threads have none; where there are two it asks these.
        let second = Dispatch::new(tracing_subscriber::fmt().finish());
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(written.clone());
        let guard = tracing::subscriber::set_default(subscriber.finish());
        (written, (guard, second))
    }

    /// The lines that contain a text.
    pub(crate) fn lines(&self, text: &str) -> Vec<String> {
        let written = self.0.lock().expect("no panic under the lock");
        let written = String::from_utf8_lossy(&written);
        let lines = written.lines().filter(|line| line.contains(text));
        lines.map(str::to_owned).collect()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic under the lock").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Written {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
