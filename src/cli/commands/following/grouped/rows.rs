//! Groups in rows: how many, who, in which state, and what they printed in one line.

use std::time::Duration;

use unicode_width::UnicodeWidthStr as _;

use super::{
    super::tally::{names, tone_of},
    Watcher,
};
use crate::{
    cli::{output::Tone, sanitize::plain},
    domain::{outcome::Outcome, run::Task},
    sys::clock::unix_ms,
    wire::proto,
};

/// A running group is called silent when nothing came for so long.
const SILENT_AFTER: Duration = Duration::from_secs(3);

impl Watcher {
    /// The groups in the order in which they are read: what needs a person last, just above the prompt.
    pub(super) fn ordered(&self) -> Vec<&proto::Group> {
        let mut ordered: Vec<&proto::Group> = self.groups.iter().collect();
        let need = |group: &proto::Group| match outcome_of(group) {
            Some(outcome) if outcome.is_success() => 0,
            None => 1,
            Some(_) => 2,
        };
        ordered.sort_by_key(|group| (need(group), std::cmp::Reverse(group.tasks.len())));
        ordered
    }

    /// One row a group, at most so many; the ones that need a person least are left out.
    pub(super) fn rows(&self, most: usize) -> Vec<String> {
        let ordered = self.ordered();
        let hidden = ordered.len().saturating_sub(most) + self.more_groups as usize;
        let shown = &ordered[ordered.len().saturating_sub(most)..];
        let cells: Vec<[String; 4]> = shown.iter().map(|group| self.cells(group)).collect();
        let width = |column: usize| cells.iter().map(|row| row[column].width()).max().unwrap_or(0);
        // Names may be many; the output is what is looked for.
        let widths = [width(0), width(1).min(40), width(2)];
        let mut rows = Vec::new();
        if hidden > 0 {
            rows.push(self.paint.paint(Tone::Dim, &format!("… and {hidden} more groups")));
        }
        for (group, row) in shown.iter().zip(&cells) {
            let tone = outcome_of(group).as_ref().map_or(Tone::Name(0), tone_of);
            let head = format!("{:>1$}", row[0], widths[0]);
            rows.push(format!(
                "{}  {}  {}  {}",
                self.paint.paint(tone, &head),
                pad(&row[1], widths[1]),
                pad(&row[2], widths[2]),
                row[3]
            ));
        }
        rows
    }

    /// A group's count, names, state, and what it printed in one line.
    pub(super) fn cells(&self, group: &proto::Group) -> [String; 4] {
        let outcome = outcome_of(group);
        let glyph = outcome.as_ref().map_or('▸', Outcome::glyph);
        let agents = names(self.tasks_of(group));
        let state = match &outcome {
            Some(outcome) => outcome.word().replace('_', " ") + &status_text(outcome),
            None => self.running_text(group),
        };
        [format!("{glyph} {:>2}", group.tasks.len()), agents, state, Self::what(group, outcome.as_ref())]
    }

    pub(super) fn tasks_of(&self, group: &proto::Group) -> impl Iterator<Item = &Task> {
        group.tasks.iter().filter_map(|task| self.run.task(*task))
    }

    fn running_text(&self, group: &proto::Group) -> String {
        let states: Vec<&Task> = self.tasks_of(group).collect();
        if let Some(task) = states.iter().find(|task| !task.waiting.is_empty()) {
            return plain(&task.waiting);
        }
        if states.iter().all(|task| task.no_contact_since_ms.is_some()) {
            return "no contact".to_owned();
        }
        let started = states.iter().filter_map(|task| task.started_ms).max();
        let Some(started) = started else { return "queued".to_owned() };
        let silent = unix_ms().saturating_sub(group.last_output_ms.max(started));
        let silent = Duration::from_millis(silent);
        if silent >= SILENT_AFTER { format!("silent {}s", silent.as_secs()) } else { "running".to_owned() }
    }

    fn what(group: &proto::Group, outcome: Option<&Outcome>) -> String {
        let lines = group.stdout_lines + group.stderr_lines;
        let detail = outcome.and_then(detail);
        let first = plain(&String::from_utf8_lossy(&group.first_line));
        let mut parts = Vec::new();
        match lines {
            0 if detail.as_ref().is_none_or(|_| outcome.is_some_and(has_proof)) => {
                parts.push("no output".to_owned());
            }
            0 => {}
            1 => parts.push(first),
            count => parts.push(format!("{first}  (+{} lines)", count - 1)),
        }
        parts.extend(detail);
        if let Some(parting) = group.parting.filter(|_| lines > 1) {
            let stream = match parting.stream() {
                proto::Stream::Stderr => " of stderr",
                proto::Stream::Stdout | proto::Stream::Unspecified => "",
            };
            parts.push(format!("differs from line {}{stream}", parting.line));
        }
        if group.long {
            parts.push("long".to_owned());
        }
        parts.join("; ")
    }
}

pub(super) fn outcome_of(group: &proto::Group) -> Option<Outcome> {
    group.outcome.clone().and_then(|outcome| Outcome::try_from(outcome).ok())
}

/// The status behind the word `exited`.
fn status_text(outcome: &Outcome) -> String {
    match outcome.word() {
        "exited" => outcome.status().map_or_else(String::new, |status| format!(" {status}")),
        _ => String::new(),
    }
}

fn has_proof(outcome: &Outcome) -> bool {
    matches!(outcome.word(), "cancelled" | "timed_out")
}

/// What an outcome says beyond its word: a reason, a proof.
pub(super) fn detail(outcome: &Outcome) -> Option<String> {
    let text = outcome.to_string();
    match outcome.word() {
        "exited" if outcome.background == 0 => None,
        "exited" => text.split_once(", ").map(|(_, rest)| plain(rest)),
        "cancelled" | "timed_out" => {
            text.split_once(", ").map(|(_, rest)| plain(rest)).or(Some(plain(&text)))
        }
        "signaled" => Some(plain(&text)),
        _ => text.split_once(": ").map(|(_, rest)| plain(rest)),
    }
}

fn pad(text: &str, width: usize) -> String {
    let used = text.width();
    format!("{text}{}", " ".repeat(width.saturating_sub(used)))
}
