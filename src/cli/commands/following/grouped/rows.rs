//! Draws groups as rows: size, agents, state, and the output in one line.

use super::{super::tally::names, Watcher};
use crate::{
    cli::output::Tone,
    domain::{
        digest::{GroupDigest, silence_that_counts},
        job::Task,
        outcome::Outcome,
        sign::Sign,
        text::{pad_to_width, strip_control, width},
        time::{UnixMs, short_age},
    },
    sys::clock::unix_ms,
};

impl Watcher {
    /// Returns the groups in display order: those that need attention come last, just above the prompt.
    pub(super) fn ordered(&self) -> Vec<&GroupDigest> {
        let mut ordered: Vec<&GroupDigest> = self.groups.iter().collect();
        let need = |group: &GroupDigest| match &group.outcome {
            Some(outcome) if outcome.is_success() => 0,
            None => 1,
            Some(_) => 2,
        };
        ordered.sort_by_key(|group| (need(group), std::cmp::Reverse(group.tasks.len())));
        ordered
    }

    /// Returns one row for each group, up to a limit; groups that need the least attention are left out.
    pub(super) fn rows(&self, most: usize) -> Vec<String> {
        let ordered = self.ordered();
        let hidden = ordered.len().saturating_sub(most) + self.more_groups as usize;
        let shown = &ordered[ordered.len().saturating_sub(most)..];
        let cells: Vec<[String; 4]> = shown.iter().map(|group| self.cells(group)).collect();
        let widest = |column: usize| cells.iter().map(|row| width(&row[column])).max().unwrap_or(0);
        // The list of names may be long, and the output is more important.
        let widths = [widest(0), widest(1).min(40), widest(2)];
        let mut rows = Vec::new();
        if hidden > 0 {
            rows.push(self.paint.paint(Tone::Dim, &format!("… and {hidden} more groups")));
        }
        for (group, row) in shown.iter().zip(&cells) {
            let tone = group.outcome.as_ref().map_or(Tone::Running, |outcome| outcome.sign().into());
            let head = format!("{:>1$}", row[0], widths[0]);
            rows.push(format!(
                "{}  {}  {}  {}",
                self.paint.paint(tone, &head),
                padded(&row[1], widths[1]),
                padded(&row[2], widths[2]),
                row[3]
            ));
        }
        rows
    }

    /// Returns the cells of a group's row: count, names, state, and the output in one line.
    pub(super) fn cells(&self, group: &GroupDigest) -> [String; 4] {
        let sign = group.outcome.as_ref().map_or(Sign::RUNNING, Outcome::sign);
        let agents = names(group.tasks_of(&self.followed.job));
        let (state, what) = match &group.outcome {
            Some(outcome) => (outcome.brief(), group.ended_text(outcome)),
            None => (self.running_state(group), group.running_text()),
        };
        [format!("{sign} {:>2}", group.tasks.len()), agents, state, what]
    }

    fn running_state(&self, group: &GroupDigest) -> String {
        let tasks: Vec<&Task> = group.tasks_of(&self.followed.job).collect();
        if let Some(task) = tasks.iter().find(|task| !task.waiting.is_empty()) {
            return strip_control(&task.waiting);
        }
        if tasks.iter().all(|task| task.no_contact_since_ms.is_some()) {
            return "no contact".to_owned();
        }
        let started = tasks.iter().filter_map(|task| task.started_ms).max();
        let Some(started) = started else { return "queued".to_owned() };
        let silent = UnixMs(unix_ms()).since(group.last_output_ms.unwrap_or_default().max(started));
        if silent >= silence_that_counts(&self.followed.job) {
            format!("silent {}", short_age(silent))
        } else {
            "running".to_owned()
        }
    }
}

/// Pads a text to a width. A longer text is not cut.
fn padded(text: &str, room: usize) -> String {
    pad_to_width(text, room.max(width(text)), "")
}
