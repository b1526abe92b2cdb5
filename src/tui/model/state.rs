//! The state of the control center.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use chrono::{FixedOffset, Offset as _, Utc};
use tui_textarea::TextArea;

use super::{
    burst::Burst,
    command::{self, CommandLine, Recipients},
    fleet::{Fleet, RowKey},
    job::{FollowKey, JobScreen},
    layout::Layout,
};
use crate::{
    domain::{
        fingerprint::Fingerprint,
        ids::JobId,
        job::Job,
        name::AgentName,
        plan::GateState,
        proposal::Proposal,
        target::{Target, fold::fold},
        time::UnixMs,
    },
    tui::{keymap::Action, output::look::DisplayOptions, settings::Settings},
};

/// A moment in time, which the runtime passes to `update`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The time on the monotonic clock since the program started.
    pub monotonic: Duration,
    /// Milliseconds since the Unix epoch.
    pub unix_ms: UnixMs,
    /// The local time zone.
    pub zone: FixedOffset,
}

impl Now {
    /// Returns the moment before the first message.
    fn zero() -> Self {
        Self { monotonic: Duration::ZERO, unix_ms: UnixMs(0), zone: Utc.fix() }
    }
}

/// The pane that receives the keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Focus {
    /// The fleet table.
    #[default]
    Fleet,
    /// The open job.
    Job,
    /// The command line.
    Command,
}

/// The state of the connection to the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// The first connection is not established yet.
    Connecting,
    /// The connection is up.
    Up,
    /// The connection is down.
    Down {
        /// When the connection broke, on the monotonic clock.
        since: Duration,
        /// When the next attempt starts, on the monotonic clock.
        next_try: Duration,
        /// The reason, as text for operators.
        reason: String,
    },
}

/// The state of the master, as it reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MasterStatus {
    /// The name of the host that it runs on.
    pub hostname: String,
    /// Its version.
    pub version: String,
    /// Why the master accepts no new jobs; empty if it accepts them.
    pub refusing_jobs: String,
    /// Whether the master enrolls every agent that reaches its port.
    pub enroll_any: bool,
    /// The name of the operator on this master.
    pub operator: String,
}

/// A layer over the panes. The last layer receives the keys.
#[derive(Debug)]
pub enum Overlay {
    /// The help for the current pane, scrolled by this number of lines.
    Help(usize),
    /// The details of an agent or of a pending key.
    Details {
        /// The row of the agent or of the pending key.
        row: RowKey,
        /// The number of lines above the screen.
        top: usize,
    },
    /// The history of jobs.
    History {
        /// The index of the job under the cursor.
        cursor: usize,
        /// The text that the shown jobs contain.
        filter: String,
    },
    /// A prompt for one line of text.
    Prompt(Box<Prompt>),
    /// A question that must be confirmed.
    Question(Question),
    /// A text to read: a join line, a long message.
    Notice {
        /// Its title.
        title: String,
        /// Its lines.
        lines: Vec<String>,
        /// The line that `y` copies.
        copy: Option<String>,
        /// The number of lines above the screen.
        top: usize,
    },
}

/// The purpose of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptKind {
    /// The filter of the fleet.
    Filter,
    /// A target whose agents are picked.
    Target,
    /// A text to search for in the output.
    Search,
    /// The options of the command line.
    Options,
    /// The name of an action.
    Palette,
    /// A command from the history.
    Past,
    /// The filter of the history of jobs.
    HistoryFilter,
    /// Label changes for the picked agents.
    Label,
    /// The reason why the picked agents are drained.
    DrainReason,
    /// The one-time code that a pending agent has printed.
    Code,
}

/// A prompt for one line of text.
#[derive(Debug)]
pub struct Prompt {
    /// The purpose of the prompt.
    pub kind: PromptKind,
    /// The text.
    pub text: TextArea<'static>,
    /// The index of the selected choice, if there are choices.
    pub choice: usize,
    /// The text with which the prompt was opened, which is restored when the prompt is left.
    pub before: String,
    /// The problem with the text; empty if there is none.
    pub problem: String,
    /// The pending key to approve: its name, its fingerprint and its proposal, as they were shown.
    pub key: Option<(AgentName, Fingerprint, Proposal)>,
}

impl Prompt {
    /// Creates a prompt that contains a text.
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

    /// Returns the current text.
    #[must_use]
    pub fn value(&self) -> String {
        self.text.lines().join(" ")
    }
}

/// The action that a confirmed question performs.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// Run the command.
    Run,
    /// Cancel these tasks; all tasks if the list is empty.
    Cancel(JobId, Vec<u32>),
    /// Promote a job.
    Promote(JobId),
    /// Stop a job.
    Stop(JobId),
    /// Pick or unpick rows of the fleet.
    Pick(Vec<(RowKey, bool)>),
    /// Open a shell on an agent.
    Shell(AgentName),
    /// Save outputs of the job with this number into files.
    Save(JobId, u64, Vec<AgentName>),
    /// Show the output of an agent in the pager.
    Pager(JobId, AgentName),
    /// Load a command and agents into the command line.
    Load(Box<Loadable>),
    /// Quit the program.
    Quit,
    /// Approve a pending key together with its proposal.
    Approve(RowKey, Proposal),
    /// Accept the proposal of an agent.
    Accept(AgentName, Proposal),
    /// Reject a pending key.
    Reject(RowKey),
    /// Stop agents on their machines.
    StopAgents(Vec<AgentName>),
    /// Delete agents from the registry.
    DeleteAgents(Vec<AgentName>),
    /// Drain the agents of a target, for a reason.
    DrainAgents(String, String),
}

/// A command and its agents, for the command line.
#[derive(Clone, Debug, PartialEq)]
pub struct Loadable {
    /// The text of the command.
    pub command: String,
    /// The target that selects the agents, if they were selected by one.
    pub target: Option<Target>,
    /// The agents.
    pub names: Vec<AgentName>,
}

/// What confirms a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// The key `y`.
    Yes,
    /// This text and Enter: the number of agents, or the name of the one agent.
    Text(String),
}

/// A question that the operator confirms.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The question, as text for operators.
    pub text: String,
    /// What confirms the question.
    pub expects: Confirmation,
    /// The text that was typed until now.
    pub typed: String,
    /// The action that follows the confirmation.
    pub asked: Asked,
    /// Keys before this moment, on the monotonic clock, were typed ahead and are ignored.
    pub from: Duration,
}

/// A short message in place of the footer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toast {
    /// The message.
    pub text: String,
    /// Whether it reports a failure.
    pub is_bad: bool,
    /// When it disappears, on the monotonic clock.
    pub until: Duration,
}

/// A message that was shown, as the list of messages keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// When it was shown.
    pub at_ms: UnixMs,
    /// The message.
    pub text: String,
}

/// How long a toast is shown.
pub const TOAST_DURATION: Duration = Duration::from_secs(10);

/// A command that was sent and has not been answered yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Starting {
    /// The id of the job. It makes sure that the command starts at most once.
    pub id: JobId,
    /// The text of the command.
    pub text: String,
    /// The agents that run it.
    pub recipients: Recipients,
    /// Whether the connection broke before the answer arrived.
    pub is_unknown: bool,
}

/// The state of the control center.
#[derive(Debug)]
pub struct Model {
    /// The settings.
    pub settings: Settings,
    /// The time of the last message.
    pub now: Now,
    /// The name of the master, as it was given to the client.
    pub master: String,
    /// The connection.
    pub connection: Connection,
    /// The state of the master, as it reports it.
    pub status: MasterStatus,
    /// The agents.
    pub fleet: Fleet,
    /// Jobs without their tasks, by number.
    pub jobs: BTreeMap<u64, Job>,
    /// The job on the screen.
    pub open: Option<JobScreen>,
    /// The display options of output.
    pub look: DisplayOptions,
    /// The command line.
    pub command: CommandLine,
    /// The pane that receives the keys.
    pub focus: Focus,
    /// The fleet or the job, whichever had the focus last: it gets most of the space.
    pub room: Focus,
    /// Whether this pane takes all of the space.
    pub is_zoomed: bool,
    /// The keys that arrived last.
    pub burst: Burst,
    /// The layers over the panes.
    pub overlays: Vec<Overlay>,
    /// Messages, oldest first.
    pub toasts: VecDeque<Toast>,
    /// What was shown in this session, oldest first, up to a maximum.
    pub messages: VecDeque<Message>,
    /// The command and its recipients, while a question about them is open.
    pub asked_job: Option<(String, Recipients)>,
    /// The command that was sent and has not been answered yet.
    pub starting: Option<Starting>,
    /// The outputs that are followed.
    pub following: BTreeSet<FollowKey>,
    /// The job that is watched.
    pub watching: Option<JobId>,
    /// The agent whose details were opened last, and its recent jobs.
    pub recent: (String, Vec<Job>),
    /// The jobs that were started in this session.
    pub own_jobs: BTreeSet<JobId>,
    /// The number of a job to open as soon as it is known; 0 means the newest.
    pub wanted_job: Option<u64>,
    /// The layout of the last frame.
    pub layout: Layout,
    /// A random number, which makes the ids of this program's jobs unique.
    pub seed: u64,
    /// The number of jobs that were sent in this session.
    pub sent: u16,
    /// Set when the program ends: the lines to print then.
    pub quits: Option<Vec<String>>,
}

impl Model {
    /// Reports whether the open job waits at a gate.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.open.as_ref().is_some_and(|open| matches!(open.job.gate.state, GateState::Held(_)))
    }

    /// Creates a model without data.
    #[must_use]
    pub fn new(settings: Settings, master: String) -> Self {
        Self {
            settings,
            now: Now::zero(),
            master,
            connection: Connection::Connecting,
            status: MasterStatus::default(),
            fleet: Fleet::default(),
            jobs: BTreeMap::new(),
            open: None,
            look: DisplayOptions::default(),
            command: CommandLine::default(),
            focus: Focus::Fleet,
            room: Focus::Fleet,
            is_zoomed: false,
            burst: Burst::default(),
            overlays: Vec::new(),
            toasts: VecDeque::new(),
            messages: VecDeque::new(),
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

    /// Returns the name of the master for the screen.
    #[must_use]
    pub fn master_name(&self) -> &str {
        let has_better = !self.settings.is_named && !self.status.hostname.is_empty();
        if has_better { &self.status.hostname } else { &self.master }
    }

    /// Whether the connection to the master is up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.connection == Connection::Up
    }

    /// Returns the agents on which a command would run now: the picked agents, including hidden ones;
    /// otherwise the agent that was frozen when the line was entered; otherwise the agent under the cursor.
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
            picked_ms: picks.agents.values().map(|pick| pick.at_ms).min().unwrap_or_default(),
        }
    }

    /// Returns the agent under the cursor as recipients. The result is empty for a pending key.
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

    /// Shows a message for a while.
    pub fn say(&mut self, text: impl Into<String>) {
        self.toast(text.into(), false);
    }

    /// Shows an error message for a while.
    pub fn complain(&mut self, text: impl Into<String>) {
        self.toast(text.into(), true);
    }

    fn toast(&mut self, text: String, is_bad: bool) {
        /// The maximum number of waiting messages. Older ones are dropped.
        const MAX_TOASTS: usize = 20;
        /// The maximum number of messages in the list.
        const MAX_MESSAGES: usize = 200;
        let until = self.now.monotonic + TOAST_DURATION;
        let text = crate::domain::text::strip_control(&text);
        self.toasts.retain(|toast| toast.text != text);
        self.messages.push_back(Message { at_ms: self.now.unix_ms, text: text.clone() });
        if self.messages.len() > MAX_MESSAGES {
            self.messages.pop_front();
        }
        self.toasts.push_back(Toast { text, is_bad, until });
        if self.toasts.len() > MAX_TOASTS {
            self.toasts.pop_front();
        }
    }

    /// Returns the choices that match the text of a prompt, best first.
    #[must_use]
    pub fn choices(&self, prompt: &Prompt) -> Vec<Choice> {
        let typed = prompt.value();
        match prompt.kind {
            PromptKind::Palette => {
                let all = Action::palette().filter(|action| self.may(*action).is_ok());
                let named: Vec<(String, Choice)> =
                    all.map(|action| (action.name().to_owned(), Choice::Action(action))).collect();
                crate::tui::fuzzy::best(typed.trim(), named)
            }
            PromptKind::Past => {
                let past = self.command.history.iter().rev();
                let named = past.map(|text| (text.clone(), Choice::Past(text.clone()))).collect();
                crate::tui::fuzzy::best(typed.trim(), named)
            }
            _ => Vec::new(),
        }
    }

    /// Returns the jobs of the history that match a filter, newest first.
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

    /// Returns the jobs that have not ended.
    pub fn active_jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values().filter(|job| job.ended_ms.is_none())
    }
}

/// A choice in a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// An action.
    Action(Action),
    /// A command from the history.
    Past(String),
}
