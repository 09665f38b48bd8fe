//! How far a query is: a line at the bottom of the terminal that is there only while the query runs.
//!
//! # Invariants
//! - It is drawn on standard error and only when that is a terminal, so it is never mixed with rows.
//! - There is a bar only when there is something to fill it with. A query that is not planned yet, or that processes
//!   nothing, has a spinner.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::client::{Query, show};

/// The phase, how much of its bytes is read, and for how long it has run. Files are compressed, so a query may be done
/// before its bar is full.
const BAR: &str = "{prefix:10} {bar:20} {elapsed:>4}  {wide_msg}";
const SPINNER: &str = "{prefix:10} {spinner} {elapsed:>4}  {wide_msg}";
/// How often it moves, so that one can see that it lives.
const REDRAW: Duration = Duration::from_millis(100);

/// The line of one query.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// The line of a query that was asked at this instant.
    pub(super) fn start(asked: Instant) -> Self {
        let progress = Self::on(ProgressDrawTarget::stderr());
        progress.0.set_elapsed(asked.elapsed());
        progress.0.enable_steady_tick(REDRAW);
        progress
    }

    fn on(target: ProgressDrawTarget) -> Self {
        Self(ProgressBar::with_draw_target(None, target).with_style(style(SPINNER)))
    }

    /// True when nobody sees it.
    pub(super) fn is_hidden(&self) -> bool {
        self.0.is_hidden()
    }

    /// Brings the line up to date.
    pub(super) fn show(&self, query: &Query) {
        self.0.set_prefix(query.phase().to_owned());
        let Some(progress) = &query.progress else { return };
        let rows = show::rows(progress.rows);
        match progress.bytes_processed {
            Some(all) if all > 0 => {
                if self.0.length().is_none() {
                    self.0.set_style(style(BAR));
                }
                let read = progress.bytes_read.min(all);
                self.0.set_length(all);
                self.0.set_position(read);
                self.0
                    .set_message(format!("{} of {}, {rows}", show::bytes(read), show::bytes(all)));
            }
            _ => self.0.set_message(rows),
        }
    }

    /// Says something that stays on the terminal.
    pub(super) fn say(&self, text: &str) {
        self.0.println(text);
    }

    /// Takes the line away.
    pub(super) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are well formed")
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex, MutexGuard};

    use indicatif::TermLike;

    use super::*;

    /// A terminal of 80 columns: the line that it shows.
    #[derive(Clone, Debug, Default)]
    struct Screen(Arc<Mutex<String>>);

    impl Screen {
        /// What it shows of a query that was seen like this, one after the other.
        fn of(seen: &[&str]) -> String {
            let screen = Self::default();
            let progress = Progress::on(ProgressDrawTarget::term_like(Box::new(screen.clone())));
            for query in seen {
                let query: Query = serde_json::from_str(query).expect("a query of the contract");
                progress.show(&query);
            }
            let line = screen.line().clone();
            progress.clear();
            assert_eq!(screen.line().trim(), "", "the line is taken away");
            line
        }

        fn line(&self) -> MutexGuard<'_, String> {
            self.0.lock().expect("nobody panics while drawing")
        }
    }

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            80
        }

        fn move_cursor_up(&self, _lines: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _lines: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _columns: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _columns: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.line().push_str(text);
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            self.line().clear();
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    const QUEUED: &str = r#"{"id":"q_1","state":"pending","progress":
        {"phase":"queued","rows":0,"bytes_read":0,"elapsed_ms":10}}"#;
    const RUNNING: &str = r#"{"id":"q_1","state":"running","progress":
        {"phase":"running","rows":1234,"bytes_read":1048576,"elapsed_ms":2500,"bytes_processed":4194304}}"#;
    const FREE: &str = r#"{"id":"q_1","state":"running","progress":
        {"phase":"running","rows":7,"bytes_read":0,"elapsed_ms":20,"bytes_processed":0}}"#;

    #[test]
    fn a_planned_query_has_a_bar_of_its_bytes() {
        let line = Screen::of(&[QUEUED, RUNNING]);

        let letters = |wanted: char| line.chars().filter(|letter| *letter == wanted).count();
        assert!(line.starts_with("running "), "{line}");
        assert_eq!((letters('█'), letters('░')), (5, 15), "{line}");
        assert!(line.contains("1.0 MiB of 4.0 MiB, 1,234 rows"), "{line}");
    }

    #[test]
    fn a_query_without_a_plan_or_without_bytes_has_a_spinner() {
        for (seen, phase, rows) in [(QUEUED, "queued ", "0 rows"), (FREE, "running ", "7 rows")] {
            let line = Screen::of(&[seen]);

            assert!(line.starts_with(phase) && line.contains(rows), "{line}");
            assert!(!line.contains(['█', '░']), "{line}");
        }
    }
}
