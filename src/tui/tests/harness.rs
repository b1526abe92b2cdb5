//! A screen without a terminal, and a scripted master.

use std::time::Duration;

use bytes::Bytes;
use chrono::{Offset as _, Utc};
use crossterm::event::KeyCode;
use ratatui::{buffer::Buffer, layout::Rect};

use super::agent;
use crate::{
    domain::{
        agent::{AgentState, AgentView, LastSeen},
        command::Command,
        control::JobDigest,
        digest::GroupDigest,
        frame::{Frame, Stream},
        groups::{
            Grouping,
            mask::{Masker, Masks},
        },
        ids::JobId,
        job::{Job, LastJob, Task, TaskState},
        name::LabelWord,
        offset::OutputOffset,
        outcome::{Ending, Outcome},
        proposal::DirectAddress,
        time::UnixMs,
    },
    tui::{
        keymap::Key,
        model::{
            MasterStatus, Model, Now,
            job::{FollowKey, Followed},
        },
        msg::{Cmd, Msg},
        settings::Settings,
        update::update,
        view::view,
    },
};

/// The time between two keys of a person, in milliseconds.
const KEY_INTERVAL_MS: u64 = 200;

/// The time at which a world begins.
pub(super) const BEGIN_MS: u64 = 1_795_442_531_000;

/// A model, its clock, and the size of its screen.
pub(super) struct World {
    pub(super) model: Model,
    pub(super) now: Now,
    pub(super) size: (u16, u16),
    /// The commands that were issued and not taken yet.
    pub(super) cmds: Vec<Cmd>,
}

impl World {
    pub(super) fn new(size: (u16, u16)) -> Self {
        Self::with(size, Settings { confirm_over: 10, ..Settings::default() })
    }

    pub(super) fn with(size: (u16, u16), settings: Settings) -> Self {
        let now = Now { monotonic: Duration::from_secs(100), unix_ms: UnixMs(BEGIN_MS), zone: Utc.fix() };
        let mut model = Model::new(settings, "prod".to_owned());
        model.now = now;
        Self { model, now, size, cmds: Vec::new() }
    }

    /// Creates a world with a connected master and the agents web-1 to web-N.
    pub(super) fn with_agents(size: (u16, u16), count: u32) -> Self {
        let mut world = Self::new(size);
        world.connect();
        let entries = (1..=count).map(|n| agent(&format!("web-{n}"))).collect();
        world.agents(entries);
        world
    }

    pub(super) fn connect(&mut self) {
        let status = MasterStatus {
            hostname: "prod".to_owned(),
            version: "0.1.0".to_owned(),
            operator: "ana".to_owned(),
            ..MasterStatus::default()
        };
        self.put(Msg::Connected(Box::new(status)));
    }

    pub(super) fn agents(&mut self, agents: Vec<AgentView>) {
        self.put(Msg::Agents { agents, gone: Vec::new(), waiting: Some(Vec::new()), is_complete: true });
    }

    pub(super) fn put(&mut self, msg: Msg) {
        self.cmds.extend(update(&mut self.model, msg, self.now));
        // Here a frame follows each message, and then the update with its layout.
        let mut buffer = Buffer::empty(Rect::new(0, 0, self.size.0, self.size.1));
        let layout = view(&self.model, &mut buffer);
        self.cmds.extend(update(&mut self.model, Msg::Drawn(layout), self.now));
    }

    pub(super) fn pass(&mut self, ms: u64) {
        self.elapse(ms);
        self.now.unix_ms = self.now.unix_ms + Duration::from_millis(ms);
        self.put(Msg::Tick);
    }

    /// Presses keys one at a time, as a person does, written as in the keymap: `^D`, `Enter`, `space`, `x`.
    pub(super) fn press(&mut self, keys: &str) {
        for name in keys.split(' ').filter(|name| !name.is_empty()) {
            self.strike(key(name));
        }
    }

    /// Types a text, one character at a time.
    pub(super) fn write(&mut self, text: &str) {
        for sign in text.chars() {
            self.strike(Key::plain(KeyCode::Char(sign)));
        }
    }

    /// Presses a key, with enough time before and after it.
    pub(super) fn strike(&mut self, key: Key) {
        self.elapse(KEY_INTERVAL_MS / 2);
        self.put(Msg::Key(key));
        self.elapse(KEY_INTERVAL_MS / 2);
        self.put(Msg::Quiet);
    }

    /// Answers a question with yes, after it was read.
    pub(super) fn agree(&mut self) {
        self.elapse(500);
        self.press("y");
        self.elapse(200);
        self.put(Msg::Quiet);
    }

    /// Presses a key that asks, and answers with yes.
    pub(super) fn press_and_agree(&mut self, key: &str) {
        self.press(key);
        self.agree();
    }

    /// Sends keys with a time between them that is too short for a person.
    pub(super) fn burst(&mut self, keys: &[Key], gap_ms: u64) {
        for key in keys {
            self.put(Msg::Key(*key));
            self.elapse(gap_ms);
        }
    }

    /// Lets time pass between keys. The time of day stands still, so that screens stay the same.
    pub(super) fn elapse(&mut self, ms: u64) {
        self.now.monotonic += Duration::from_millis(ms);
    }

    /// Takes the commands that were issued since the last call.
    pub(super) fn ordered(&mut self) -> Vec<Cmd> {
        std::mem::take(&mut self.cmds)
    }

    /// Returns the pieces of the screen whose cells have a style, from top to bottom.
    pub(super) fn styled_rows(&self, is_wanted: impl Fn(ratatui::style::Style) -> bool) -> Vec<String> {
        let mut buffer = Buffer::empty(Rect::new(0, 0, self.size.0, self.size.1));
        let _ = view(&self.model, &mut buffer);
        let row = |y: u16| -> String {
            let cells = (0..self.size.0).filter_map(|x| buffer.cell((x, y)));
            cells.filter(|cell| is_wanted(cell.style())).map(ratatui::buffer::Cell::symbol).collect()
        };
        (0..self.size.1).map(row).filter(|row| !row.is_empty()).collect()
    }

    /// Returns the screen as text.
    pub(super) fn screen(&self) -> String {
        let mut buffer = Buffer::empty(Rect::new(0, 0, self.size.0, self.size.1));
        let _ = view(&self.model, &mut buffer);
        let rows = (0..self.size.1).map(|y| {
            let mut row = String::new();
            let mut skip = 0;
            for x in 0..self.size.0 {
                let symbol = buffer[(x, y)].symbol();
                if skip > 0 {
                    skip -= 1;
                    continue;
                }
                skip = crate::domain::text::width(symbol).saturating_sub(1);
                row.push_str(symbol);
            }
            row.trim_end().to_owned()
        });
        rows.collect::<Vec<_>>().join("\n")
    }

    /// Reports whether the screen contains a text.
    pub(super) fn says(&self, text: &str) -> bool {
        self.screen().contains(text)
    }

    /// Sends the digest of a job: its tasks and groups.
    pub(super) fn digest(&mut self, job: &Job, groups: Vec<GroupDigest>) {
        let digest = JobDigest {
            job: Some(Box::new(job.clone())),
            groups,
            gate: job.gate.clone(),
            ended_ms: job.ended_ms,
            ..JobDigest::default()
        };
        self.put(Msg::Digest(job.id, Box::new(digest)));
    }

    /// Sends output for everything that is followed.
    pub(super) fn print(&mut self, printed: impl Fn(u32) -> &'static str) {
        let keys: Vec<FollowKey> = self.model.following.iter().copied().collect();
        for key in keys {
            let tasks = match key.what {
                Followed::Pane(task) | Followed::Full(task) => vec![task],
                Followed::Stream => self
                    .model
                    .open
                    .as_ref()
                    .map_or_else(Vec::new, |open| open.job.tasks.iter().map(|task| task.index).collect()),
            };
            for task in tasks {
                let frames = vec![frame(0, printed(task))];
                self.put(Msg::Output { key, task, frames });
            }
        }
    }
}

pub(super) fn frame(offset: u64, text: &str) -> Frame {
    Frame {
        stream: Stream::Stdout,
        offset: OutputOffset(offset),
        time_ns: 0,
        data: Bytes::copy_from_slice(text.as_bytes()),
    }
}

/// Reports whether a command starts a job.
pub(super) fn is_start(cmd: &Cmd) -> bool {
    matches!(cmd, Cmd::Start { .. })
}

/// Parses a key, written as in the keymap.
pub(super) fn key(name: &str) -> Key {
    let plain = Key::plain;
    match name {
        "space" => plain(KeyCode::Char(' ')),
        "Enter" => plain(KeyCode::Enter),
        "S-Enter" => Key { shift: true, ..plain(KeyCode::Enter) },
        "Esc" => plain(KeyCode::Esc),
        "Tab" => plain(KeyCode::Tab),
        "S-Tab" => plain(KeyCode::BackTab),
        "↑" => plain(KeyCode::Up),
        "↓" => plain(KeyCode::Down),
        "←" => plain(KeyCode::Left),
        "→" => plain(KeyCode::Right),
        "PgUp" => plain(KeyCode::PageUp),
        "PgDn" => plain(KeyCode::PageDown),
        "Home" => plain(KeyCode::Home),
        "End" => plain(KeyCode::End),
        "Backspace" => plain(KeyCode::Backspace),
        name => match (name.strip_prefix("Alt-"), name.strip_prefix('^')) {
            (Some(rest), _) => Key { alt: true, ..key(rest) },
            (_, Some(letter)) if !letter.is_empty() => {
                let sign = letter.chars().next().unwrap().to_ascii_lowercase();
                Key { ctrl: true, ..plain(KeyCode::Char(sign)) }
            }
            _ => plain(KeyCode::Char(name.chars().next().unwrap())),
        },
    }
}

/// Creates a job on web-1 to web-N whose tasks are all running.
pub(super) fn job(number: u64, tasks: u32, command: &str) -> Job {
    let task = |n: u32| Task {
        state: TaskState::Running,
        started_ms: Some(UnixMs(BEGIN_MS - 72_000)),
        ..Task::queued(n, format!("web-{}", n + 1).parse().unwrap())
    };
    Job {
        id: JobId::from_parts(BEGIN_MS, u128::from(number)),
        number,
        operator: "ana".into(),
        target: "@role:web".into(),
        command: Command::new(vec![command.as_bytes().to_vec()]).unwrap(),
        created_ms: UnixMs(BEGIN_MS - 72_000),
        unfinished: tasks,
        ..Job::for_tests((0..tasks).map(task).collect())
    }
}

/// Ends a task.
pub(super) fn end(job: &mut Job, index: u32, ending: Ending) -> Outcome {
    let outcome = Outcome::from(ending);
    let task = &mut job.tasks[index as usize];
    task.state = TaskState::Ended(outcome.clone());
    task.duration_ns = 100_000_000;
    job.unfinished -= 1;
    job.succeeded += u32::from(outcome.is_success());
    outcome
}

/// Groups the tasks of a job by their output, as the master does.
pub(super) fn groups(job: &Job, printed: impl Fn(u32) -> &'static str) -> Vec<GroupDigest> {
    let maskers = job.tasks.iter().map(|_| Masker::new(Masks::default(), [])).collect();
    let mut grouping = Grouping::new(maskers);
    for task in &job.tasks {
        let text = printed(task.index);
        if !text.is_empty() {
            grouping.feed(task.index, Stream::Stdout, text.as_bytes(), UnixMs(BEGIN_MS - 60_000));
        }
        if let Some(outcome) = task.state.outcome() {
            grouping.end(task.index, outcome.clone());
        }
    }
    let largest = grouping.groups().first().map_or(0, |group| group.example);
    let line_at = |task: u32, parting: Option<crate::domain::groups::Parting>| {
        parting.and_then(|parting| grouping.line_at(task, parting)).map(<[u8]>::to_vec).unwrap_or_default()
    };
    let digest = |group: crate::domain::groups::Group| GroupDigest {
        outcome: group.outcome,
        example: group.example,
        lines: group.lines,
        parting: group.parted,
        is_long: group.long,
        last_output_ms: None,
        first_line_stream: grouping.first_line(group.example).map(|(stream, _)| stream),
        first_line: grouping.first_line(group.example).map(|(_, line)| line.to_vec()).unwrap_or_default(),
        last_line: grouping.last_line(group.example).map(<[u8]>::to_vec).unwrap_or_default(),
        last_error: grouping.last_error(group.example).map(<[u8]>::to_vec).unwrap_or_default(),
        differing_line: line_at(group.example, group.parted),
        usual_line: line_at(largest, group.parted),
        quiet: group
            .tasks
            .iter()
            .filter(|index| job.tasks[**index as usize].state == TaskState::Running)
            .map(|index| (*index, grouping.last_output_ms(*index).unwrap_or(UnixMs(BEGIN_MS - 72_000))))
            .collect(),
        tasks: group.tasks,
    };
    grouping.groups().into_iter().map(digest).collect()
}

/// The output of the tasks in the sketch.
pub(super) fn uname(task: u32) -> &'static str {
    match task {
        1 => "bash: line 1: uname: command not found\n",
        2 | 8 => "",
        11 | 12 => "5.15.0-91-generic\n",
        _ => "6.1.0-18-amd64\n",
    }
}

/// Creates a world with a job on fourteen of seventeen agents: one task failed, one has no contact, one is
/// silent and two differ.
pub(super) fn sketch(size: (u16, u16)) -> World {
    sketch_with(size, Settings { confirm_over: 10, ..Settings::default() })
}

fn word(key: &str, value: &str) -> (LabelWord, LabelWord) {
    (key.to_owned().try_into().unwrap(), value.to_owned().try_into().unwrap())
}

pub(super) fn sketch_with(size: (u16, u16), settings: Settings) -> World {
    let mut world = World::with(size, settings);
    world.connect();
    let mut job = job(412, 14, "uname -r");
    end(&mut job, 1, Ending::Exited(127));
    job.tasks[2].no_contact_since_ms = Some(UnixMs(BEGIN_MS - 41_000));
    for index in (0..14).filter(|index| ![1, 2, 8].contains(index)) {
        end(&mut job, index, Ending::Exited(0));
    }
    let mut agents: Vec<AgentView> = (1..=14).map(|n| agent(&format!("web-{n}"))).collect();
    agents.extend(["db-1", "db-2"].map(agent));
    for (entry, task) in agents.iter_mut().zip(&job.tasks) {
        let last = LastJob::new(task);
        entry.last_job = Some(LastJob { number: 412, operator: "ana".into(), ..last });
    }
    agents[2].state = AgentState::Offline;
    agents[2].facts = None;
    agents[2].link = None;
    agents[2].offline_since_ms = Some(UnixMs(BEGIN_MS - 41_000));
    agents[2].hint = "not connected; is it running, and does it reach this master?".to_owned();
    agents[6].state = AgentState::Late;
    agents[6].direct_address = DirectAddress::new("192.168.1.17", 50_052, None);
    agents[6].link_reason =
        "192.168.1.17:50052 does not answer: connection refused; using the tunnel".to_owned();
    agents[6].proposed.labels = [word("rack", "3")].into();
    let mut waiting = agent("web-15");
    waiting.state = AgentState::Pending;
    waiting.link = None;
    waiting.last_seen = Some(LastSeen { at_ms: UnixMs(BEGIN_MS - 30_000), ago_ms: 30_000 });
    waiting.labels.clear();
    waiting.has_code = true;
    waiting.proposed.labels = [word("role", "web")].into();
    world.put(Msg::Agents { agents, gone: Vec::new(), waiting: Some(vec![waiting]), is_complete: true });
    let summary = Job { tasks: Vec::new(), ..job.clone() };
    world.put(Msg::Jobs { begins: true, jobs: vec![summary], deleted: Vec::new(), is_complete: true });
    world.press("[");
    let groups = groups(&job, uname);
    world.digest(&job, groups);
    world.print(uname);
    world
}
