//! The open job: its rows, its panes, and the output in full view. Independent of drawing.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::{
    domain::{
        digest::GroupDigest,
        frame::Frame,
        groups::mask::Masks,
        ids::JobId,
        job::{Job, Task},
        name::AgentName,
        offset::OutputOffset,
    },
    tui::{
        model::{
            difference::Comparison,
            rows::{Row, Rows},
        },
        output::{
            line::Line,
            maker::LineMakers,
            rows::Position,
            window::{FULL_VIEW_CAPACITY, Window},
        },
    },
};

/// The maximum number of lines in the stream view.
const MAX_STREAM_LINES: usize = 5_000;
/// The maximum size of these lines, in bytes.
const MAX_STREAM_BYTES: usize = 4 * 1024 * 1024;

/// A view of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// Groups of tasks with the same output, in rows.
    #[default]
    Groups,
    /// A pane for each group, or for each task if the rows are unfolded.
    Grid,
    /// The output of all tasks in one stream of lines.
    Stream,
}

impl View {
    /// All views, in the sequence in which `v` selects them.
    pub const ALL: [Self; 3] = [Self::Groups, Self::Grid, Self::Stream];

    /// Returns the word for the view.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Groups => "groups",
            Self::Grid => "grid",
            Self::Stream => "stream",
        }
    }
}

/// The output in full view.
#[derive(Debug)]
pub struct Output {
    /// The index of the task in its job.
    pub task: u32,
    /// The loaded lines.
    pub window: Window,
    /// Whether the view follows the end.
    pub follows: bool,
    /// What is at the top of the screen; used when the view does not follow.
    pub top: Position,
    /// The offset of the line that a search found last.
    pub found: Option<OutputOffset>,
    /// Whether earlier output has been requested.
    pub is_loading: bool,
}

impl Output {
    /// Creates the view of a task's output from an offset on. It follows the end.
    #[must_use]
    pub fn new(task: u32, from: OutputOffset) -> Self {
        Self {
            task,
            window: Window::new(FULL_VIEW_CAPACITY, from),
            follows: true,
            top: Position::default(),
            found: None,
            is_loading: false,
        }
    }
}

/// The output of all tasks in one stream of lines.
#[derive(Debug, Default)]
pub struct StreamLines {
    /// The lines, each with the index of its task.
    pub lines: VecDeque<(u32, Line)>,
    makers: HashMap<u32, LineMakers>,
    bytes: usize,
    /// For each task, the offset up to which its output was received. It continues there after a disconnect.
    pub seen: BTreeMap<u32, OutputOffset>,
    /// The number of lines below the screen; 0 follows the end.
    pub above: usize,
    /// The number of bytes that were skipped.
    pub skipped: u64,
    /// The line that a search found last, counted from the first line of the stream.
    pub found: Option<u64>,
    /// The number of lines that were dropped at the beginning.
    dropped: u64,
}

impl StreamLines {
    /// Appends output of a task. Ignores bytes that were received before.
    pub fn feed(&mut self, task: u32, frame: Frame) {
        let seen = self.seen.entry(task).or_default();
        let Some(frame) = frame.from_offset(*seen) else { return };
        *seen = frame.end();
        let makers = self.makers.entry(task).or_default();
        let (lines, bytes, above) = (&mut self.lines, &mut self.bytes, &mut self.above);
        makers.feed(&frame, |line| {
            *bytes += line.size();
            lines.push_back((task, line));
            if *above > 0 {
                *above += 1;
            }
        });
        self.make_room();
    }

    /// Records a gap in the output of a task.
    pub fn note_gap(&mut self, task: u32, from: OutputOffset, to: OutputOffset) {
        let seen = self.seen.entry(task).or_default();
        let from = from.max(*seen);
        if from >= to {
            return;
        }
        *seen = to;
        self.skipped += to.since(from);
        for line in self.makers.entry(task).or_default().miss(from, to) {
            self.push(task, line);
        }
    }

    /// Records the end of a task, or of all tasks: the last line is complete even without a newline.
    pub fn ended(&mut self, task: Option<u32>) {
        let mut tasks: Vec<u32> = match task {
            Some(task) => vec![task],
            None => self.makers.keys().copied().collect(),
        };
        tasks.sort_unstable();
        for task in tasks {
            for line in self.makers.remove(&task).map(LineMakers::end).unwrap_or_default() {
                self.push(task, line);
            }
        }
    }

    fn push(&mut self, task: u32, line: Line) {
        self.bytes += line.size();
        self.lines.push_back((task, line));
        if self.above > 0 {
            self.above += 1;
        }
        self.make_room();
    }

    fn make_room(&mut self) {
        while self.lines.len() > MAX_STREAM_LINES || self.bytes > MAX_STREAM_BYTES {
            let Some((_, line)) = self.lines.pop_front() else { break };
            self.bytes -= line.size();
            self.dropped += 1;
        }
        self.above = self.above.min(self.lines.len());
    }

    /// Returns the index of the line that a search found last, if the line is still held.
    #[must_use]
    pub fn found_at(&self) -> Option<usize> {
        usize::try_from(self.found?.checked_sub(self.dropped)?).ok().filter(|at| *at < self.lines.len())
    }

    /// Marks a line as found, and scrolls it to the middle of the screen.
    pub fn show(&mut self, at: usize, page: usize) {
        self.found = Some(self.dropped + at as u64);
        self.above = self.lines.len().saturating_sub((at + 1 + page / 2).max(page));
    }
}

/// The part of a job's output that is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Followed {
    /// The output of one task, for a pane of the grid or the preview.
    Pane(u32),
    /// The output of one task, in full view.
    Full(u32),
    /// All tasks in one stream.
    Stream,
}

/// The key of a followed output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FollowKey {
    /// The id of the job.
    pub job: JobId,
    /// The part of its output.
    pub what: Followed,
}

/// The open job.
#[derive(Debug)]
pub struct JobScreen {
    /// The job, with everything that is known of it.
    pub job: Job,
    /// Whether the master has sent the tasks. Before that, only the summary of the job is known.
    pub is_loaded: bool,
    /// The groups of tasks with the same output, the largest first.
    pub groups: Vec<GroupDigest>,
    /// The number of groups beyond those.
    pub more_groups: u32,
    /// The groups as rows of the screen.
    pub rows: Rows,
    /// The selected view.
    pub view: View,
    /// The index in `places` of the pane under the cursor, in the grid.
    pub pane: usize,
    /// The index of the first visible pane.
    pub first_pane: usize,
    /// The tasks whose output the panes show, in the order of the panes.
    pub places: Vec<u32>,
    /// Whether the operator has moved in the grid. Until then the panes follow the order of attention; from then on they keep
    /// their places.
    pub has_moved: bool,
    /// The output in the panes, by task.
    pub windows: BTreeMap<u32, Window>,
    /// The tasks that were cancelled or timed out while the job was open.
    pub killed: Vec<Task>,
    /// The tasks whose end was read again because the master had skipped it.
    pub read_again: BTreeSet<u32>,
    /// The stream view.
    pub stream: StreamLines,
    /// The output in full view, if one is open.
    pub output: Option<Output>,
    /// The comparison of two outputs that is shown instead of one.
    pub comparison: Option<Comparison>,
    /// The masks that are applied before outputs are compared.
    pub masks: Masks,
    /// Whether the job needs no more watching: it has ended, was deleted, or cannot be watched.
    pub is_over: bool,
    /// What is at the top of the preview; `None` shows what is most interesting: the end, or where it differs.
    pub preview_top: Option<Position>,
    /// The number of columns to the left of the screen. It is the same for all outputs, so that they can be
    /// compared.
    pub left: usize,
    /// The text to search for in the output or in the stream.
    pub search: String,
}

impl JobScreen {
    /// Creates the screen of a job that has not been loaded.
    #[must_use]
    pub fn new(job: Job) -> Self {
        Self {
            masks: job.masks,
            job,
            is_loaded: false,
            groups: Vec::new(),
            more_groups: 0,
            rows: Rows::default(),
            view: View::Groups,
            pane: 0,
            first_pane: 0,
            places: Vec::new(),
            has_moved: false,
            windows: BTreeMap::new(),
            killed: Vec::new(),
            read_again: BTreeSet::new(),
            stream: StreamLines::default(),
            output: None,
            comparison: None,
            is_over: false,
            preview_top: None,
            left: 0,
            search: String::new(),
        }
    }

    /// Reports whether the movement keys move between panes, not lines.
    #[must_use]
    pub fn shows_grid(&self) -> bool {
        self.output.is_none() && self.view == View::Grid
    }

    /// Reports whether there are lines to search in.
    #[must_use]
    pub fn can_search(&self) -> bool {
        self.output.is_some() || self.view == View::Stream
    }

    /// Returns the agent of a task.
    #[must_use]
    pub fn agent(&self, task: u32) -> Option<&AgentName> {
        self.job.task(task).map(|task| &task.agent)
    }

    /// Returns the task under the cursor: that of the output in full view, of the pane, or the example of the
    /// row.
    #[must_use]
    pub fn current_task(&self) -> Option<u32> {
        if let Some(output) = &self.output {
            return Some(output.task);
        }
        match self.view {
            View::Groups | View::Stream => self.rows.current().map(|row| row.example),
            View::Grid => self.places.get(self.pane).copied(),
        }
    }

    /// Returns the tasks under the cursor: all tasks of a row, or else the one task.
    #[must_use]
    pub fn current_tasks(&self) -> Vec<u32> {
        let of_pane = || self.row_of_pane(self.current_task()?).map(|row| row.tasks.clone());
        match (self.view, &self.output) {
            (View::Groups | View::Stream, None) => {
                self.rows.current().map(|row| row.tasks.clone()).unwrap_or_default()
            }
            (View::Grid, None) => of_pane().unwrap_or_else(|| self.current_task().into_iter().collect()),
            _ => self.current_task().into_iter().collect(),
        }
    }

    /// Returns the two tasks whose outputs are compared now.
    #[must_use]
    pub fn compared(&self) -> Option<(u32, u32)> {
        let current = self.rows.current().map(|row| row.example);
        self.comparison.as_ref()?.tasks(self.largest().map(|(task, _)| task), current)
    }

    /// Returns the example of the largest group, and the number of its tasks.
    #[must_use]
    pub fn largest(&self) -> Option<(u32, usize)> {
        self.groups.first().map(|group| (group.example, group.tasks.len()))
    }

    /// Returns the row whose output a pane shows, unless each task has a pane.
    #[must_use]
    pub fn row_of_pane(&self, task: u32) -> Option<&Row> {
        let is_grouped = !self.rows.is_unfolded;
        self.rows.all().iter().find(|row| is_grouped && row.example == task)
    }

    /// Assigns the panes of the grid: one for each group, or for each task if the rows are unfolded, the most urgent first. Once
    /// the operator has moved, panes keep their places.
    pub fn assign_panes(&mut self) {
        let rows = self.rows.all().iter();
        let wanted: Vec<u32> = if self.rows.is_unfolded {
            rows.flat_map(|row| row.tasks.iter().copied()).collect()
        } else {
            rows.map(|row| row.example).collect()
        };
        if !self.has_moved {
            self.places = wanted;
            self.pane = 0;
            return;
        }
        let (rows, current) = (&self.rows, self.places.get(self.pane).copied());
        let is_wanted: BTreeSet<u32> = wanted.iter().copied().collect();
        // A group whose example has changed keeps its place.
        let kept = |task: u32| {
            let row = rows.all().iter().find(|row| row.tasks.contains(&task));
            if is_wanted.contains(&task) { Some(task) } else { row.map(|row| row.example) }
        };
        let mut places: Vec<u32> = Vec::new();
        let mut known = BTreeSet::new();
        for task in self.places.iter().filter_map(|task| kept(*task)).chain(wanted) {
            if known.insert(task) {
                places.push(task);
            }
        }
        let current = current.and_then(kept);
        self.pane = places.iter().position(|task| Some(*task) == current).unwrap_or(0);
        self.places = places;
    }
}
