//! Everything that the screen shows: changed only by `update`. It holds windows of data, not all of it.

pub mod command;
pub mod fleet;
pub mod job;
mod layout;
pub mod may;
pub mod rows;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use chrono::{FixedOffset, Offset as _, Utc};
use tui_textarea::TextArea;

pub use self::layout::{Area, Layout};
use self::{
    command::{CommandLine, Recipients},
    fleet::{Fleet, RowKey},
    job::{FollowKey, JobScreen, Look},
};
use super::{keymap::Action, settings::Settings};
use crate::domain::{
    fingerprint::Fingerprint, ids::JobId, job::Job, name::AgentName, proposal::Proposal, target::fold::fold,
};

/// A moment, as the runtime tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// On the monotonic clock, since the program's start.
    pub monotonic: Duration,
    /// Milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// The zone of local time.
    pub zone: FixedOffset,
}

impl Now {
    /// Before the runtime has told any.
    fn beginning() -> Self {
        Self { monotonic: Duration::ZERO, unix_ms: 0, zone: Utc.fix() }
    }
}

/// Which pane the keys go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Focus {
    /// The fleet table.
    #[default]
    Fleet,
    /// The job.
    Job,
    /// The command line.
    Command,
}

/// How the connection to the master is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// Not there yet for the first time.
    Connecting,
    /// The connection is up.
    Up,
    /// The connection is down.
    Down {
        /// Since when, on the monotonic clock.
        since: Duration,
        /// When it is tried again.
        next_try: Duration,
        /// Why, in words.
        reason: String,
    },
}

/// What the master says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MasterStatus {
    /// The machine that it runs on.
    pub hostname: String,
    /// Its version.
    pub version: String,
    /// Why it takes no new jobs; empty when it does.
    pub refusing_jobs: String,
    /// Whoever reaches its port is let in.
    pub enroll_any: bool,
    /// Who the operator is there.
    pub operator: String,
}

/// What lies over the panes. The last one gets the keys.
#[derive(Debug)]
pub enum Overlay {
    /// The help for the current pane, scrolled by this number of lines.
    Help(usize),
    /// All there is to know of an agent.
    Details {
        /// The row of the agent or the key.
        row: RowKey,
        /// Lines that are scrolled out above.
        top: usize,
    },
    /// Past jobs.
    History {
        /// The job under the cursor.
        cursor: usize,
        /// What the jobs must contain.
        filter: String,
    },
    /// One line of text that is asked for.
    Prompt(Box<Prompt>),
    /// Something must be confirmed first.
    Question(Question),
    /// Text for reading: a join line, a long message.
    Notice {
        /// Its title.
        title: String,
        /// Its lines.
        lines: Vec<String>,
        /// The line that `y` copies.
        copy: Option<String>,
    },
}

/// What a line of text is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptKind {
    /// The fleet's filter.
    Filter,
    /// A target to be picked.
    Target,
    /// Text in an output.
    Search,
    /// The options of the command line.
    Options,
    /// Something to do, by its name.
    Palette,
    /// A command of before.
    Past,
    /// What the history of jobs must contain.
    HistoryFilter,
    /// Labels for the picked agents.
    Label,
    /// Why the picked agents are to take no new tasks.
    DrainReason,
    /// The code that a waiting agent has printed.
    Code,
}

/// A line of text that is asked for.
#[derive(Debug)]
pub struct Prompt {
    /// What for.
    pub kind: PromptKind,
    /// The text.
    pub text: TextArea<'static>,
    /// The choice under the cursor, where there are choices.
    pub choice: usize,
    /// What stood there before, to come back to.
    pub before: String,
    /// What is wrong with the text.
    pub problem: String,
    /// The waiting key that it is about: its name, its fingerprint, and what it proposes, as that was shown.
    pub key: Option<(AgentName, Fingerprint, Proposal)>,
}

impl Prompt {
    /// Asks for a text, beginning with what there is.
    #[must_use]
    pub fn new(kind: PromptKind, text: &str) -> Self {
        Self {
            kind,
            text: command::text_area(text),
            choice: 0,
            before: text.to_owned(),
            problem: String::new(),
            key: None,
        }
    }

    /// The text as it is.
    #[must_use]
    pub fn value(&self) -> String {
        self.text.lines().join(" ")
    }
}

/// What happens when a question is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// A command is run.
    Run,
    /// Tasks are cancelled; all of the job when none are named.
    Cancel(JobId, Vec<u32>),
    /// The program ends.
    Quit,
    /// A key is let in, with what it proposes.
    Approve(RowKey, Proposal),
    /// What an agent proposes is accepted.
    Accept(AgentName, Proposal),
    /// A key is forgotten.
    Reject(RowKey),
    /// Agents are ended on their machines.
    StopAgents(Vec<AgentName>),
    /// Agents are forgotten.
    DeleteAgents(Vec<AgentName>),
    /// Agents take no new tasks, for this reason.
    DrainAgents(String, String),
}

/// Something that must be confirmed: by the number of agents, or the one agent's name, and Enter.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// What is about to happen, in words.
    pub text: String,
    /// What has to be typed.
    pub expects: String,
    /// What was typed so far.
    pub typed: String,
    /// What happens then.
    pub asked: Asked,
    /// Keys before this moment were typed ahead, and answer nothing.
    pub from: Duration,
}

/// A short message in place of the footer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toast {
    /// The message.
    pub text: String,
    /// It tells of something that went wrong.
    pub is_bad: bool,
    /// Until when it is shown.
    pub until: Duration,
}

/// How long a toast waits.
pub const TOAST: Duration = Duration::from_secs(10);

/// A command that was sent, and of which nothing was heard yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Starting {
    /// The job's id, which makes sending twice harmless.
    pub id: JobId,
    /// The text.
    pub text: String,
    /// The agents that it was for.
    pub recipients: Recipients,
    /// The connection broke before an answer came.
    pub is_unknown: bool,
}

/// The whole state.
#[derive(Debug)]
pub struct Model {
    /// What a person set.
    pub settings: Settings,
    /// The moment of the last message.
    pub now: Now,
    /// How the master is reached, in words.
    pub master: String,
    /// The connection.
    pub connection: Connection,
    /// What the master says of itself.
    pub status: MasterStatus,
    /// The agents.
    pub fleet: Fleet,
    /// Jobs without their tasks, by number.
    pub jobs: BTreeMap<u64, Job>,
    /// The job on the screen.
    pub open: Option<JobScreen>,
    /// How output is shown.
    pub look: Look,
    /// The command line.
    pub command: CommandLine,
    /// Where the keys go.
    pub focus: Focus,
    /// Which of fleet and job had the focus last: it gets the room.
    pub room: Focus,
    /// The pane with the room has all of it.
    pub is_zoomed: bool,
    /// What lies over the panes.
    pub overlays: Vec<Overlay>,
    /// Messages, oldest first.
    pub toasts: VecDeque<Toast>,
    /// The command that is about to be sent, while it is asked about.
    pub asked_job: Option<(String, Recipients)>,
    /// The command that was sent.
    pub starting: Option<Starting>,
    /// What is followed.
    pub following: BTreeSet<FollowKey>,
    /// The job that is watched, and how often it was begun to be.
    pub watching: Option<JobId>,
    /// Recent jobs of the agent whose details are shown.
    pub recent: (String, Vec<Job>),
    /// Jobs that this person started here.
    pub own_jobs: BTreeSet<JobId>,
    /// A job was asked for by number before anything was heard of it.
    pub wanted_job: Option<u64>,
    /// Where things were drawn last.
    pub layout: Layout,
    /// Chance, which makes this program's runs its own.
    pub seed: u64,
    /// Jobs that were sent from here.
    pub sent: u16,
    /// The program is to end; what to print then.
    pub quits: Option<Vec<String>>,
}

impl Model {
    /// A model that knows nothing yet.
    #[must_use]
    pub fn new(settings: Settings, master: String) -> Self {
        Self {
            settings,
            now: Now::beginning(),
            master,
            connection: Connection::Connecting,
            status: MasterStatus::default(),
            fleet: Fleet::default(),
            jobs: BTreeMap::new(),
            open: None,
            look: Look::default(),
            command: CommandLine::default(),
            focus: Focus::Fleet,
            room: Focus::Fleet,
            is_zoomed: false,
            overlays: Vec::new(),
            toasts: VecDeque::new(),
            asked_job: None,
            starting: None,
            following: BTreeSet::new(),
            watching: None,
            recent: (String::new(), Vec::new()),
            own_jobs: BTreeSet::new(),
            wanted_job: None,
            layout: Layout::default(),
            seed: 0,
            sent: 0,
            quits: None,
        }
    }

    /// The master's name, for people.
    #[must_use]
    pub fn master_name(&self) -> &str {
        let has_better = !self.settings.is_named && !self.status.hostname.is_empty();
        if has_better { &self.status.hostname } else { &self.master }
    }

    /// Whether calls reach the master.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.connection == Connection::Up
    }

    /// Returns the agents that a command would reach now, hidden picks included: the picked agents, else the agent that was frozen when
    /// the line was entered, else the one under the cursor.
    #[must_use]
    pub fn recipients(&self) -> Recipients {
        let picks = &self.fleet.picks;
        if picks.agents.is_empty() {
            return self.command.frozen.clone().unwrap_or_else(|| self.recipients_at_cursor());
        }
        let folded = || fold(picks.agents.keys().map(crate::domain::name::AgentName::as_str));
        Recipients {
            target: picks.target.as_ref().map_or_else(folded, ToString::to_string),
            agents: picks.agents.iter().map(|(name, pick)| (name.clone(), pick.fingerprint)).collect(),
            is_cursor: false,
            picked_ms: picks.agents.values().map(|pick| pick.at_ms).min().unwrap_or(0),
        }
    }

    /// The agent under the cursor, as somebody to be reached.
    #[must_use]
    pub fn recipients_at_cursor(&self) -> Recipients {
        let row = self.fleet.cursor.as_ref().filter(|row| row.waiting.is_none());
        let agent = row.and_then(|row| self.fleet.row(row));
        agent.map_or_else(Recipients::default, |agent| Recipients {
            target: agent.name.to_string(),
            agents: vec![(agent.name.clone(), agent.fingerprint)],
            is_cursor: true,
            picked_ms: self.now.unix_ms,
        })
    }

    /// Says something for a while.
    pub fn say(&mut self, text: impl Into<String>) {
        self.toast(text.into(), false);
    }

    /// Says what went wrong, for a while.
    pub fn complain(&mut self, text: impl Into<String>) {
        self.toast(text.into(), true);
    }

    fn toast(&mut self, text: String, is_bad: bool) {
        /// Messages that may wait; older ones are forgotten.
        const MAX_HISTORY: usize = 20;
        let until = self.now.monotonic + TOAST;
        self.toasts.retain(|toast| toast.text != text);
        self.toasts.push_back(Toast { text: crate::domain::text::strip_control(&text), is_bad, until });
        if self.toasts.len() > MAX_HISTORY {
            self.toasts.pop_front();
        }
    }

    /// Things to do that the palette offers, for what was typed.
    #[must_use]
    pub fn choices(&self, prompt: &Prompt) -> Vec<Choice> {
        let typed = prompt.value();
        match prompt.kind {
            PromptKind::Palette => {
                let all = Action::palette().filter(|action| self.may(*action).is_ok());
                let named: Vec<(String, Choice)> =
                    all.map(|action| (action.name().to_owned(), Choice::Action(action))).collect();
                super::fuzzy::best(typed.trim(), named)
            }
            PromptKind::Past => {
                let past = self.command.history.iter().rev();
                let named = past.map(|text| (text.clone(), Choice::Past(text.clone()))).collect();
                super::fuzzy::best(typed.trim(), named)
            }
            _ => Vec::new(),
        }
    }

    /// Jobs of the history that are shown, newest first.
    #[must_use]
    pub fn history_rows(&self, filter: &str) -> Vec<&Job> {
        let filter = filter.to_lowercase();
        let has = |job: &&Job| {
            filter.is_empty()
                || job.command.shown().to_lowercase().contains(&filter)
                || job.target.to_lowercase().contains(&filter)
                || job.operator.to_lowercase().contains(&filter)
                || job.number.to_string() == filter
        };
        self.jobs.values().rev().filter(has).collect()
    }

    /// Jobs that have not ended.
    pub fn active_jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values().filter(|job| job.ended_ms.is_none())
    }
}

/// Something that can be chosen in a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Something to do.
    Action(Action),
    /// A command of before.
    Past(String),
}
