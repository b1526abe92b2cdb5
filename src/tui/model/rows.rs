//! A job as rows: one for each state and output, the most urgent first. Independent of drawing.

use std::{cmp::Reverse, collections::BTreeMap, ops::Range, time::Duration};

use crate::domain::{
    digest::{GroupDigest, GroupLine, detail, median_duration, parting_text, silence_that_counts},
    groups::Parting,
    job::{Job, Task, TaskState},
    outcome::Outcome,
    sign::Sign,
    text::strip_control,
    time::{UnixMs, short_duration},
};

/// If there are more rows than this, they are folded by outcome.
const MAX_UNFOLDED_ROWS: usize = 20;
/// The minimum time between two sorts of the rows.
const SORT_INTERVAL: Duration = Duration::from_secs(1);

/// How urgently a row needs attention. Rows are in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// The tasks ended with anything but status 0.
    Failed,
    /// The agents have lost contact.
    NoContact,
    /// The tasks run and print nothing.
    Silent,
    /// The tasks run, and their output diverges from the largest group.
    Parted,
    /// The tasks run, and their output does not diverge.
    InStep,
    /// The tasks wait for their turn.
    Queued,
    /// The tasks exited with status 0.
    Ended,
}

/// A row: tasks with the same state and the same output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The indices of its tasks, in order.
    pub tasks: Vec<u32>,
    /// How urgently it needs attention.
    pub need: Need,
    /// The outcome of its tasks, if they have ended.
    pub outcome: Option<Outcome>,
    /// The state in words, without the running time.
    pub state: String,
    /// When it entered this state, in milliseconds since the Unix epoch; `None` if no running time is shown.
    pub since_ms: Option<UnixMs>,
    /// The output, in one line.
    pub text: String,
    /// The bytes of the text that differ from the largest group.
    pub differing: Range<usize>,
    /// The task whose output represents the row.
    pub example: u32,
    /// The number of complete lines that the example has printed.
    pub lines: u64,
    /// Where its output diverges from the largest group.
    pub parting: Option<Parting>,
    /// The number of different outputs; more than one if rows are folded.
    pub outputs: usize,
}

/// The rows and the cursor.
#[derive(Debug, Default)]
pub struct Rows {
    rows: Vec<Row>,
    /// The task that the operator has selected. The cursor stays with it when its row changes. `None` keeps
    /// the cursor on the first row, which is the most urgent.
    anchor: Option<u32>,
    /// The index of the first visible row.
    pub top: usize,
    sorted_at: Option<Duration>,
    /// Whether all rows are shown, instead of being folded by outcome.
    pub is_unfolded: bool,
}

/// Creates the row of running tasks of one group that have the same need.
fn running_row(job: &Job, group: &GroupDigest, need: Need, tasks: Vec<u32>) -> Row {
    let of =
        |pick: fn(&Task) -> Option<UnixMs>| tasks.iter().filter_map(|index| pick(job.task(*index)?)).min();
    let example = if tasks.contains(&group.example) { group.example } else { tasks[0] };
    let is_alone = tasks.len() < group.tasks.len();
    let waiting = job.task(example).map(|task| strip_control(&task.waiting)).unwrap_or_default();
    let took = median_duration(job);
    let (state, since_ms, text) = match need {
        Need::NoContact => {
            let since = of(|task| task.no_contact_since_ms);
            ("no contact".to_owned(), since, format!("was running; {}", group.running_text()))
        }
        Need::Silent => {
            let quiet = group.quiet.iter().filter(|(index, _)| tasks.contains(index));
            let since = quiet.map(|(_, since)| *since).max();
            let text = match (group.line_count(), took) {
                (0, Some((count, median))) => {
                    format!("no output; the {count} took {}", short_duration(median))
                }
                _ => group.running_text(),
            };
            ("silent".to_owned(), since, text)
        }
        Need::Queued if waiting.is_empty() => ("queued".to_owned(), None, String::new()),
        Need::Queued => ("waits".to_owned(), None, waiting),
        _ => {
            let text = if waiting.is_empty() { group.running_text() } else { waiting };
            ("running".to_owned(), None, text)
        }
    };
    Row {
        need,
        outcome: None,
        state,
        since_ms,
        text,
        differing: 0..0,
        example,
        lines: if is_alone { 0 } else { group.line_count() },
        parting: group.parting,
        outputs: 1,
        tasks,
    }
}

/// Returns the rows of a job at a moment, the most urgent first.
#[must_use]
pub(crate) fn rows_of(job: &Job, groups: &[GroupDigest], now_ms: UnixMs) -> Vec<Row> {
    let silence = silence_that_counts(job);
    let largest_running =
        groups.iter().filter(|group| group.outcome.is_none()).max_by_key(|group| group.tasks.len());
    let largest_running = largest_running.map(|group| group.example);
    let mut rows = Vec::new();
    for group in groups {
        if let Some(outcome) = &group.outcome {
            let GroupLine { text, differing } = group.ended_line(outcome);
            rows.push(Row {
                tasks: group.tasks.clone(),
                need: if outcome.is_success() { Need::Ended } else { Need::Failed },
                outcome: Some(outcome.clone()),
                state: outcome.brief(),
                since_ms: None,
                text,
                differing,
                example: group.example,
                lines: group.line_count(),
                parting: group.parting,
                outputs: 1,
            });
            continue;
        }
        let mut parts: BTreeMap<Need, Vec<u32>> = BTreeMap::new();
        let mut just_ended: Vec<Row> = Vec::new();
        for index in &group.tasks {
            let Some(task) = job.task(*index) else { continue };
            if let Some(outcome) = task.state.outcome() {
                // It has ended, but the last part of its output is still being compared.
                note_just_ended(&mut just_ended, *index, outcome);
                continue;
            }
            let is_silent =
                group.quiet.iter().any(|(quiet, since)| quiet == index && now_ms.since(*since) >= silence);
            let need = match task.state {
                _ if task.no_contact_since_ms.is_some() => Need::NoContact,
                TaskState::Queued | TaskState::Dispatched => Need::Queued,
                _ if is_silent => Need::Silent,
                _ if group.parting.is_some() && largest_running != Some(group.example) => Need::Parted,
                _ => Need::InStep,
            };
            parts.entry(need).or_default().push(*index);
        }
        rows.extend(just_ended);
        for (need, tasks) in parts {
            rows.push(running_row(job, group, need, tasks));
        }
    }
    sort(&mut rows);
    rows
}

fn note_just_ended(rows: &mut Vec<Row>, task: u32, outcome: &Outcome) {
    let same = |row: &&mut Row| row.outcome.as_ref().map(Outcome::kind) == Some(outcome.kind());
    if let Some(row) = rows.iter_mut().find(same) {
        row.tasks.push(task);
        return;
    }
    rows.push(Row {
        tasks: vec![task],
        need: if outcome.is_success() { Need::Ended } else { Need::Failed },
        outcome: Some(outcome.clone()),
        state: outcome.brief(),
        since_ms: None,
        text: detail(outcome).unwrap_or_else(|| "its output is being compared".to_owned()),
        differing: 0..0,
        example: task,
        lines: 0,
        parting: None,
        outputs: 1,
    });
}

fn sort(rows: &mut [Row]) {
    rows.sort_by_key(|row| {
        let size = row.tasks.len();
        // Among successful rows the largest comes last; among the others it comes first.
        let by_size = if row.need == Need::Ended { (size, Reverse(0)) } else { (0, Reverse(size)) };
        (row.need, by_size, row.tasks.first().copied())
    });
}

/// Folds rows by outcome: `287 exited 0, 287 outputs`.
fn folded(rows: Vec<Row>) -> Vec<Row> {
    let mut folded: Vec<Row> = Vec::new();
    for row in rows {
        let same = |known: &&mut Row| {
            let kind = |row: &Row| row.outcome.as_ref().map(Outcome::kind);
            known.need == row.need && kind(known) == kind(&row)
        };
        match folded.iter_mut().find(same) {
            Some(known) => {
                known.tasks.extend(row.tasks);
                known.outputs += row.outputs;
                known.since_ms = known.since_ms.max(row.since_ms);
            }
            None => folded.push(row),
        }
    }
    for row in &mut folded {
        row.tasks.sort_unstable();
        if row.outputs > 1 {
            (row.text, row.differing) = (format!("{} outputs", row.outputs), 0..0);
            row.parting = None;
        }
    }
    folded
}

impl Rows {
    /// Replaces the rows. They are sorted at most once a second. Between sorts, known rows keep their places
    /// and new rows are appended.
    pub fn update(&mut self, job: &Job, groups: &[GroupDigest], now: Duration, now_ms: UnixMs) {
        let mut rows = rows_of(job, groups, now_ms);
        if rows.len() > MAX_UNFOLDED_ROWS && !self.is_unfolded {
            rows = folded(rows);
        }
        let screen_row = self.cursor().saturating_sub(self.top);
        let is_due = self.sorted_at.is_none_or(|at| now.saturating_sub(at) >= SORT_INTERVAL);
        if is_due || job.ended_ms.is_some() {
            self.sorted_at = Some(now);
        } else {
            let places: BTreeMap<u32, usize> = self
                .rows
                .iter()
                .enumerate()
                .filter_map(|(at, row)| Some((*row.tasks.first()?, at)))
                .collect();
            let place = |row: &Row| row.tasks.iter().find_map(|task| places.get(task).copied());
            rows.sort_by_key(|row| place(row).unwrap_or(usize::MAX));
        }
        self.rows = rows;
        // The row under the cursor stays where it is on the screen.
        self.top = self.cursor().saturating_sub(screen_row);
    }

    /// Returns the rows, in order.
    #[must_use]
    pub fn all(&self) -> &[Row] {
        &self.rows
    }

    /// Returns the index of the row under the cursor.
    #[must_use]
    pub fn cursor(&self) -> usize {
        let has = |anchor: u32| self.rows.iter().position(|row| row.tasks.contains(&anchor));
        self.anchor.and_then(has).unwrap_or(0)
    }

    /// Returns the row under the cursor.
    #[must_use]
    pub fn current(&self) -> Option<&Row> {
        self.rows.get(self.cursor())
    }

    /// Moves the cursor by a number of rows.
    pub fn move_cursor(&mut self, by: isize) {
        let last = self.rows.len().saturating_sub(1);
        self.move_to(self.cursor().saturating_add_signed(by).min(last));
    }

    /// Moves the cursor to a row.
    pub fn move_to(&mut self, place: usize) {
        if let Some(row) = self.rows.get(place) {
            self.anchor = row.tasks.first().copied();
        }
    }

    /// Moves the cursor to the row of a task.
    pub fn move_to_task(&mut self, task: u32) {
        self.anchor = Some(task);
    }

    /// Moves the cursor to the next or previous row that needs attention. Returns false if there is none.
    pub fn move_to_attention(&mut self, forwards: bool) -> bool {
        let needs = |row: &Row| row.need < Need::InStep || (row.need == Need::Ended && row.parting.is_some());
        let count = self.rows.len();
        let from = self.cursor();
        let found = (1..=count)
            .map(|step| if forwards { (from + step) % count } else { (from + count - step) % count })
            .find(|place| needs(&self.rows[*place]));
        found.inspect(|place| self.move_to(*place)).is_some()
    }
}

/// Counts the tasks of a job by their glyphs, most urgent first.
#[must_use]
pub(crate) fn counts(job: &Job) -> [(Sign, usize); 6] {
    Sign::OF_TASKS.map(|sign| (sign, job.tasks.iter().filter(|task| task.sign().glyph == sign.glyph).count()))
}

/// Returns the words for a task's state.
#[must_use]
pub(crate) fn task_words(task: &Task) -> String {
    match &task.state {
        TaskState::Ended(outcome) => outcome.brief(),
        _ if task.no_contact_since_ms.is_some() => "no contact".to_owned(),
        TaskState::Queued if task.waiting.is_empty() => "queued".to_owned(),
        TaskState::Queued => format!("waits: {}", strip_control(&task.waiting)),
        TaskState::Dispatched => "sent".to_owned(),
        TaskState::Running => "running".to_owned(),
    }
}

/// Describes a divergence from the largest group: `line 14 is the first unlike the largest group's`.
#[must_use]
pub(crate) fn divergence_text(parting: Parting) -> String {
    format!("line {} is the first unlike the largest group's", parting_text(parting))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{frame::Stream, outcome::Ending};

    fn job(count: u32) -> Job {
        let task = |n| Task {
            state: TaskState::Running,
            started_ms: Some(UnixMs(1)),
            ..Task::queued(n, format!("web-{}", n + 1).parse().unwrap())
        };
        Job::for_tests((0..count).map(task).collect())
    }

    fn ended(job: &mut Job, index: u32, code: u8) -> Outcome {
        let outcome = Outcome::from(Ending::Exited(code));
        job.tasks[index as usize].state = TaskState::Ended(outcome.clone());
        outcome
    }

    fn group(tasks: &[u32], outcome: Option<Outcome>) -> GroupDigest {
        GroupDigest { tasks: tasks.to_vec(), outcome, example: tasks[0], ..GroupDigest::default() }
    }

    #[test]
    fn rows_come_in_the_order_of_attention() {
        let mut job = job(10);
        let good = ended(&mut job, 0, 0);
        ended(&mut job, 1, 0);
        ended(&mut job, 2, 0);
        let bad = ended(&mut job, 3, 3);
        job.tasks[4].no_contact_since_ms = Some(UnixMs(5));
        job.tasks[9].state = TaskState::Queued;
        let mut running = group(&[4, 5, 6, 7], None);
        running.quiet = vec![(5, UnixMs(1_000))];
        let mut parted = group(&[8], None);
        parted.parting = Some(Parting { stream: Stream::Stdout, line: 2 });
        let groups = [
            group(&[0, 1], Some(good.clone())),
            group(&[2], Some(good)),
            group(&[3], Some(bad)),
            running,
            parted,
            group(&[9], None),
        ];
        let rows = rows_of(&job, &groups, UnixMs(60_000));
        let shown: Vec<_> = rows.iter().map(|row| (row.need, row.tasks.clone())).collect();
        assert_eq!(
            shown,
            [
                (Need::Failed, vec![3]),
                (Need::NoContact, vec![4]),
                (Need::Silent, vec![5]),
                (Need::Parted, vec![8]),
                (Need::InStep, vec![6, 7]),
                (Need::Queued, vec![9]),
                (Need::Ended, vec![2]),
                (Need::Ended, vec![0, 1]),
            ]
        );
    }

    #[test]
    fn many_rows_fold_by_outcome() {
        let mut job = job(30);
        let groups: Vec<_> = (0..30)
            .map(|n| {
                let outcome = ended(&mut job, n, u8::from(n == 7));
                group(&[n], Some(outcome))
            })
            .collect();
        let mut rows = Rows::default();
        rows.update(&job, &groups, Duration::ZERO, UnixMs(1));
        assert_eq!(rows.all().len(), 2);
        assert_eq!((rows.all()[1].tasks.len(), rows.all()[1].text.as_str()), (29, "29 outputs"));
    }

    #[test]
    fn the_row_under_the_cursor_does_not_move() {
        let mut job = job(4);
        let good = ended(&mut job, 0, 0);
        let groups = [group(&[0], Some(good.clone())), group(&[1, 2, 3], None)];
        let mut rows = Rows::default();
        rows.update(&job, &groups, Duration::ZERO, UnixMs(1));
        rows.move_to_task(0);
        assert_eq!(rows.cursor(), 1);
        let bad = ended(&mut job, 2, 1);
        let groups = [group(&[0], Some(good)), group(&[1, 3], None), group(&[2], Some(bad))];
        rows.update(&job, &groups, Duration::from_millis(100), UnixMs(1));
        assert_eq!(rows.all()[rows.cursor()].tasks, [0]);
        assert_eq!(rows.cursor() - rows.top, 1, "it stays on its line of the screen");
        rows.update(&job, &groups, Duration::from_secs(2), UnixMs(1));
        assert_eq!(rows.all()[0].need, Need::Failed);
        assert_eq!(rows.cursor() - rows.top, 1);
    }
}
