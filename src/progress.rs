//! How far a run is, in one line.
//!
//! What it is: the line, and when it is due. What it is not: a bar, which says less in more room; or
//! the terminal, which is `screen.rs`'s.
//!
//! Invariant: what is not known is left out.

use crate::limits::{
    PROGRESS_LINE_ALWAYS, PROGRESS_LINE_FIRST, PROGRESS_LINE_INTERVAL, REDRAW_INTERVAL,
};
use crate::messages;
use crate::overview::Overview;
use crate::time::Duration;
use crate::words::{PerTime, Percent, Span};

/// When `head` tells how far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// On a terminal all the time, elsewhere now and then in a long run.
    #[default]
    Auto,
    /// Elsewhere oftener, and from the beginning.
    Always,
    /// Not at all.
    Never,
}

/// Where and how often the line appears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// It stays at the bottom of the terminal; otherwise each is a line of its own.
    stays: bool,
    /// Until the first.
    first: Duration,
    interval: Duration,
}

impl Progress {
    /// `None` if none is wanted.
    pub fn new(when: When, is_terminal: bool) -> Option<Progress> {
        let (first, interval) = match (when, is_terminal) {
            (When::Never, _) => return None,
            (_, true) => (REDRAW_INTERVAL, REDRAW_INTERVAL),
            (When::Auto, false) => (PROGRESS_LINE_FIRST, PROGRESS_LINE_INTERVAL),
            (When::Always, false) => (PROGRESS_LINE_ALWAYS, PROGRESS_LINE_FIRST),
        };
        Some(Progress {
            stays: is_terminal,
            first,
            interval,
        })
    }

    /// From the beginning of the run to the first line.
    pub fn first(&self) -> Duration {
        self.first
    }

    /// Says how far the run is; returns when to do so again.
    pub fn tell(&self, overview: &Overview<'_>) -> Duration {
        match self.stays {
            true => messages::show(line(overview)),
            false => messages::say(&format!("progress: {}", line(overview))),
        }
        self.interval
    }
}

/// A run at one moment, in less than 80 columns as a rule.
pub fn line(overview: &Overview<'_>) -> String {
    let tasks = &overview.tasks;
    let mut line = tasks.done.to_string();
    if let Some(total) = tasks.total {
        line += &format!(" of {total}");
    }
    line += " done";
    if tasks.failed > 0 {
        line += &format!(", {} failed", tasks.failed);
    }
    // Failed is answered, too.
    if let Some(share_milli) = tasks.share_milli {
        line += &format!(" ({})", Percent(share_milli));
    }
    if let Some(reason) = &overview.idle {
        return format!("{line}: {reason}");
    }
    line += &format!(", {} running", overview.running());
    if let Some(rate) = overview.rate {
        line += &format!(", {}", PerTime(rate));
    }
    if let Some(left) = overview.left {
        // A full second, as a line that says 0 s for a while is no use.
        let left = Duration::from_secs(left.as_secs() + 1);
        line += &format!(", {} left", Span(left).to_string().replace(".00", ""));
    }
    let (up, workers) = (overview.up(), overview.workers.len());
    line += &format!(", {up} of {workers} workers up");
    match overview.throttled() {
        0 => line,
        count => line + &format!(" ({count} throttled)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overview::tests::{overview, worker};
    use crate::overview::{Standing, Worker};
    use crate::rate::Rate;

    #[test]
    fn a_line_leaves_out_what_is_not_known() {
        let mut run = overview();
        run.tasks.total = None;
        run.tasks.share_milli = None;
        run.tasks.failed = 0;
        run.rate = None;
        run.left = None;
        assert_eq!(line(&run), "300 done, 3 running, 1 of 2 workers up");
    }

    #[test]
    fn a_line_says_it_all_in_80_columns() {
        let mut run = overview();
        assert_eq!(
            line(&run),
            "300 of 1000 done, 4 failed (30%), 3 running, 48.2/s, 15 s left, 1 of 2 workers up"
        );
        run.workers[0].standing = Standing::Throttled;
        assert!(line(&run).ends_with(", 1 of 2 workers up (1 throttled)"));
        run.idle = Some("no worker can take tasks (2 dialling)".into());
        assert_eq!(
            line(&run),
            "300 of 1000 done, 4 failed (30%): no worker can take tasks (2 dialling)"
        );
    }

    #[test]
    fn of_64_workers_the_line_is_as_long_as_of_2() {
        let mut run = overview();
        run.tasks.failed = 0;
        run.rate = Some(Rate {
            tasks: 1000,
            span: Duration::from_secs(1),
        });
        let names: Vec<String> = (0..64).map(|i| format!("10.0.0.{i}:5000")).collect();
        run.workers = names
            .iter()
            .map(|name| Worker { name, ..worker("") })
            .collect();
        let line = line(&run);
        assert!(
            line.ends_with("192 running, 1000/s, 15 s left, 64 of 64 workers up"),
            "{line}"
        );
        assert!(line.len() < 80, "{line}");
    }

    #[test]
    fn a_line_comes_oftener_where_it_costs_nothing() {
        assert_eq!(Progress::new(When::Never, true), None);
        let first = |when, is_terminal| Progress::new(when, is_terminal).unwrap().first();
        assert_eq!(first(When::Auto, true), REDRAW_INTERVAL);
        assert_eq!(first(When::Auto, false), PROGRESS_LINE_FIRST);
        assert_eq!(first(When::Always, false), PROGRESS_LINE_ALWAYS);
    }
}
