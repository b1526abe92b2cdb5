//! The open job: its rows, its panes, and the output that is read in full. Knows no screen.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::{
    domain::{digest::GroupDigest, frame::Frame, groups::mask::Masks, ids::JobId, job::Job, name::AgentName},
    tui::{
        model::rows::Rows,
        output::{
            line::{Line, Source},
            maker::LineMakers,
            window::{FULL, Window},
        },
    },
};

/// Most lines of the stream view.
const STREAM_LINES: usize = 5_000;
/// Most bytes of them.
const STREAM_BYTES: usize = 4 * 1024 * 1024;

/// How a job is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// Who agrees, in rows.
    #[default]
    Groups,
    /// Panes, in fixed places.
    Grid,
    /// All in one stream of lines.
    Stream,
}

impl View {
    /// All, in the order in which `v` goes through them.
    pub const ALL: [Self; 3] = [Self::Groups, Self::Grid, Self::Stream];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Groups => "groups",
            Self::Grid => "grid",
            Self::Stream => "stream",
        }
    }
}

/// Which streams are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Streams {
    /// Both, stderr marked.
    #[default]
    Both,
    /// Standard output only.
    Stdout,
    /// Standard error only.
    Stderr,
}

impl Streams {
    /// The next one, as the palette goes through them.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::Both => Self::Stdout,
            Self::Stdout => Self::Stderr,
            Self::Stderr => Self::Both,
        }
    }

    /// Whether lines of a source are shown.
    #[must_use]
    pub fn shows(self, source: Source) -> bool {
        match (self, source) {
            (Self::Both, _) | (_, Source::Gap) => true,
            (Self::Stdout, source) => source == Source::Stdout,
            (Self::Stderr, source) => source == Source::Stderr,
        }
    }

    /// The words for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Both => "stdout and stderr",
            Self::Stdout => "stdout only",
            Self::Stderr => "stderr only",
        }
    }
}

/// How output is shown; the same for every pane, so that a key means the same everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Long lines continue below.
    pub wraps: bool,
    /// Lines begin with their time.
    pub has_times: bool,
    /// Which streams.
    pub streams: Streams,
}

/// The output that is read in full.
#[derive(Debug)]
pub struct Output {
    /// The index of the task in its job.
    pub task: u32,
    /// Its lines.
    pub window: Window,
    /// The end stays on the screen.
    pub follows: bool,
    /// The first line on the screen, by its place in the window, while it does not follow.
    pub top: usize,
    /// The line that was found last, by its offset.
    pub found: Option<u64>,
    /// Earlier output is on its way.
    pub is_loading: bool,
}

impl Output {
    /// The output of a task from an offset on.
    #[must_use]
    pub fn new(task: u32, from: u64) -> Self {
        Self { task, window: Window::new(FULL, from), follows: true, top: 0, found: None, is_loading: false }
    }
}

/// All tasks in one stream of lines.
#[derive(Debug, Default)]
pub struct StreamLines {
    /// Lines and their tasks.
    pub lines: VecDeque<(u32, Line)>,
    makers: HashMap<u32, LineMakers>,
    bytes: usize,
    /// Up to where each task's output was taken: there it continues after a disconnect.
    pub seen: BTreeMap<u32, u64>,
    /// How far the end is scrolled out below.
    pub above: usize,
    /// Bytes that were left out.
    pub skipped: u64,
    /// The line that was found last, counted from the first that ever came.
    pub found: Option<u64>,
    /// Lines that were dropped at the beginning so far.
    dropped: u64,
}

impl StreamLines {
    /// Takes what a task printed next.
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

    /// Takes that something is missing.
    pub fn note_gap(&mut self, task: u32, from: u64, to: u64) {
        let seen = self.seen.entry(task).or_default();
        let from = from.max(*seen);
        if from >= to {
            return;
        }
        *seen = to;
        self.skipped += to - from;
        for line in self.makers.entry(task).or_default().miss(from, to) {
            self.push(task, line);
        }
    }

    /// Takes that a task has ended, or that all have: lines without an end are whole.
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
        while self.lines.len() > STREAM_LINES || self.bytes > STREAM_BYTES {
            let Some((_, line)) = self.lines.pop_front() else { break };
            self.bytes -= line.size();
            self.dropped += 1;
        }
        self.above = self.above.min(self.lines.len());
    }

    /// The place of the line that was found last, while it is still there.
    #[must_use]
    pub fn found_at(&self) -> Option<usize> {
        usize::try_from(self.found?.checked_sub(self.dropped)?).ok().filter(|at| *at < self.lines.len())
    }

    /// Marks a line as found, and brings it to the middle of the screen.
    pub fn show(&mut self, at: usize, page: usize) {
        self.found = Some(self.dropped + at as u64);
        self.above = self.lines.len().saturating_sub((at + 1 + page / 2).max(page));
    }
}

/// The part of a job's output that is followed, and the pane that shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Followed {
    /// One task, for a pane among others.
    Pane(u32),
    /// One task in full.
    Full(u32),
    /// All tasks in one stream.
    Stream,
}

/// One thing that is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FollowKey {
    /// Of which job.
    pub job: JobId,
    /// What of it.
    pub what: Followed,
}

/// The job on the screen.
#[derive(Debug)]
pub struct JobScreen {
    /// The job, as far as it is known.
    pub job: Job,
    /// It has been heard of: until then only its number is known.
    pub is_loaded: bool,
    /// Who printed the same.
    pub groups: Vec<GroupDigest>,
    /// Groups beyond those.
    pub more_groups: u32,
    /// The same in rows.
    pub rows: Rows,
    /// How it is looked at.
    pub view: View,
    /// The pane with the cursor, in the grid.
    pub pane: usize,
    /// The first pane on the screen.
    pub first_pane: usize,
    /// Panes keep the places that they were given: tasks in order.
    pub places: Vec<u32>,
    /// What panes show.
    pub windows: BTreeMap<u32, Window>,
    /// The stream view.
    pub stream: StreamLines,
    /// The output that is read in full.
    pub output: Option<Output>,
    /// The difference to the largest group is shown in place of the output.
    pub is_diff: bool,
    /// Masks with which outputs are compared.
    pub masks: Masks,
    /// The watch has ended, with everything said.
    pub is_over: bool,
    /// What of the preview is scrolled out above; `None` follows.
    pub preview_top: Option<usize>,
    /// Columns of outputs that are scrolled out at the left: the same for all, so that they can be compared.
    pub left: usize,
    /// What is searched for in the output, or in the stream.
    pub search: String,
}

impl JobScreen {
    /// A job of which nothing but its summary, or a guess, is known.
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
            windows: BTreeMap::new(),
            stream: StreamLines::default(),
            output: None,
            is_diff: false,
            is_over: false,
            preview_top: None,
            left: 0,
            search: String::new(),
        }
    }

    /// Whether the keys move panes and not lines.
    #[must_use]
    pub fn shows_grid(&self) -> bool {
        self.output.is_none() && self.view == View::Grid
    }

    /// Whether there are lines in which something can be searched for.
    #[must_use]
    pub fn can_search(&self) -> bool {
        self.output.is_some() || self.view == View::Stream
    }

    /// The agent of a task.
    #[must_use]
    pub fn agent(&self, task: u32) -> Option<&AgentName> {
        self.job.task(task).map(|task| &task.agent)
    }

    /// The task under the cursor: the pane's, the row's example, or the one that is read in full.
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

    /// The tasks under the cursor: all of a row, else the one.
    #[must_use]
    pub fn current_tasks(&self) -> Vec<u32> {
        match (self.view, &self.output) {
            (View::Groups | View::Stream, None) => {
                self.rows.current().map(|row| row.tasks.clone()).unwrap_or_default()
            }
            _ => self.current_task().into_iter().collect(),
        }
    }

    /// The example of the largest group, and how many tasks that has.
    #[must_use]
    pub fn largest(&self) -> Option<(u32, usize)> {
        self.groups.first().map(|group| (group.example, group.tasks.len()))
    }

    /// Gives each task a place in the grid, in the order of attention; a place once given is kept.
    pub fn give_places(&mut self) {
        let rows = self.rows.all().iter();
        for task in rows.flat_map(|row| row.tasks.iter()) {
            if !self.places.contains(task) {
                self.places.push(*task);
            }
        }
    }
}
