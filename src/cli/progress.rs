//! How far long work is: a bar on a terminal, a line every so often where standard error is none.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines.
const PAUSE: Duration = Duration::from_secs(30);

pub struct Progress {
    bar: ProgressBar,
    /// When the last line was written; `None` on a terminal.
    last: Option<Mutex<Instant>>,
}

impl Progress {
    pub fn new(what: &str, length: usize) -> Self {
        let bar = ProgressBar::new(length as u64);
        let style =
            ProgressStyle::with_template("{prefix:>10} {bar:30} {pos}/{len} {elapsed} {msg}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self {
            bar: bar.with_prefix(what.to_string()),
            last: (!std::io::stderr().is_terminal()).then(|| Mutex::new(Instant::now())),
        }
    }

    /// One more is done.
    pub fn inc(&self) {
        self.bar.inc(1);
        let Some(last) = &self.last else { return };
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= PAUSE {
            *last = Instant::now();
            eprintln!("{}", line(&self.bar));
        }
    }

    /// What is told beside the count.
    pub fn set_message(&self, message: String) {
        self.bar.set_message(message);
    }

    pub fn finish(&self) {
        self.bar.finish();
    }
}

fn line(bar: &ProgressBar) -> String {
    let (done, all) = (bar.position(), bar.length().unwrap_or_default());
    let seconds = bar.elapsed().as_secs();
    let text = format!(
        "{} {done} of {all} after {seconds} s {}",
        bar.prefix(),
        bar.message()
    );
    text.trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is() {
        let progress = Progress::new("train", 9);
        progress.set_message("teacher 2/3".into());
        progress.inc();
        assert_eq!(line(&progress.bar), "train 1 of 9 after 0 s teacher 2/3");
    }
}
