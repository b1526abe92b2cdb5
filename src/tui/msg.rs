//! What comes to the screen's state, and what it orders. Plain data.

use super::{
    model::{
        MasterStatus,
        command::Recipients,
        job::{FollowKey, Look},
    },
    output::window::Window,
};
use crate::domain::{
    agent::AgentView,
    control::JobDigest,
    fingerprint::Fingerprint,
    frame::Frame,
    groups::mask::Masks,
    ids::JobId,
    job::{Job, JobOptions},
    name::AgentName,
    proposal::Proposal,
};
use crate::{domain::code::KeyMark, tui::keymap::Key};

/// What comes.
#[derive(Debug)]
pub enum Msg {
    /// A key was pressed; `followed` when more bytes came with it.
    Key(Key, bool),
    /// Text was pasted.
    Paste(String),
    /// The mouse was pressed here.
    Click(u16, u16),
    /// The wheel was turned here: up or down.
    Wheel(u16, u16, bool),
    /// The terminal has another size.
    Resized,
    /// Time has passed.
    Tick,
    /// Something was drawn, and things are elsewhere now.
    Drawn(super::model::Layout),
    /// The master answers.
    Connected(Box<MasterStatus>),
    /// The master does not answer; the next attempt is made after this number of milliseconds.
    Disconnected {
        /// The reason, as text for operators.
        reason: String,
        /// When it is tried again.
        retry_ms: u64,
    },
    /// All agents are about to be told.
    FleetBegins,
    /// Agents as they are now, and those that are gone.
    Agents {
        /// Those that changed.
        agents: Vec<AgentView>,
        /// Those that are gone.
        gone: Vec<AgentName>,
        /// All keys that wait, where that changed.
        waiting: Option<Vec<AgentView>>,
        /// Everything was told.
        is_complete: bool,
    },
    /// Runs as they are now, without their tasks.
    Jobs {
        /// The newest come anew: what was told before may be gone.
        begins: bool,
        /// The jobs.
        jobs: Vec<Job>,
        /// Those that were deleted.
        deleted: Vec<JobId>,
        /// All that is new was told.
        is_complete: bool,
    },
    /// The state of the watched job.
    Digest(JobId, Box<JobDigest>),
    /// The watched job cannot be watched.
    WatchFailed(JobId, String),
    /// Output that is followed.
    Output {
        /// The pane that it is for.
        key: FollowKey,
        /// The index of the task in its job.
        task: u32,
        /// The frames of output.
        frames: Vec<Frame>,
    },
    /// A part of the output that is followed is not there.
    Gap {
        /// The pane that it is for.
        key: FollowKey,
        /// The index of the task in its job.
        task: u32,
        /// From this offset …
        from: u64,
        /// … to this one.
        to: u64,
    },
    /// A task whose output is followed has ended, or all of them have, and what they printed was told before.
    TaskEnded(FollowKey, Option<u32>),
    /// Earlier output of a task, as a window of its own.
    Earlier(JobId, u32, Box<Window>),
    /// Where a search found its text, or not.
    Found(JobId, u32, Option<u64>),
    /// A job was begun.
    Started(Box<Job>),
    /// A job was not begun, for this reason.
    NotStarted(JobId, String),
    /// Nothing was begun: these are gone since they were shown.
    TargetChanged(JobId, Vec<String>),
    /// Whether a job was begun is not known: the connection broke.
    StartUnknown(JobId),
    /// Jobs of one agent.
    Recent(String, Vec<Job>),
    /// The commands of before.
    Past(Vec<String>),
    /// A text comes back from the editor.
    Edited(String),
    /// The line that was left behind when the terminal went away.
    Draft(String),
    /// A text was read that is to be copied, and what it is.
    Copied(String, String),
    /// Something was done.
    Done(String),
    /// The master knows no job of this number.
    NoJob(u64),
    /// Something could not be done.
    Failed(String),
    /// A join line for another machine.
    JoinLine(Vec<String>),
    /// The terminal is gone, or the program is to end.
    HangUp,
}

/// What is ordered.
#[derive(Clone, Debug, PartialEq)]
pub enum Cmd {
    /// Start a job.
    Start {
        /// Its id.
        id: JobId,
        /// The command.
        text: String,
        /// The agents that it is for, as they were shown.
        recipients: Recipients,
        /// The rest.
        options: Box<JobOptions>,
    },
    /// Cancel tasks; all when none are named.
    Cancel(JobId, Vec<u32>),
    /// Let a job continue.
    Promote(JobId),
    /// Start nothing more of a job.
    Stop(JobId),
    /// Watch a job, and no other.
    Watch(JobId, Masks),
    /// Follow output.
    Follow {
        /// The output that is followed.
        key: FollowKey,
        /// The agent, where it is one task.
        agent: Option<AgentName>,
        /// From this offset of the task.
        from_offset: u64,
        /// Up to where the output of each of several tasks was taken.
        seen: Vec<(u32, u64)>,
    },
    /// Follow it no more.
    Unfollow(FollowKey),
    /// Read output that lies before an offset.
    ReadEarlier {
        /// Of which job.
        job: JobId,
        /// The index of the task in its job.
        task: u32,
        /// The agent.
        agent: AgentName,
        /// From this offset …
        from: u64,
        /// … to this one.
        until: u64,
    },
    /// Look for a text in a task's output, outside of what the window holds.
    Search {
        /// Of which job.
        job: JobId,
        /// The index of the task in its job.
        task: u32,
        /// The agent.
        agent: AgentName,
        /// The text of the message.
        text: String,
        /// From this offset to the end, or backwards to the beginning.
        from: u64,
        /// Towards the end.
        forwards: bool,
    },
    /// Find the job of a number.
    FindJob(u64),
    /// Read jobs of one agent.
    Recent(AgentName),
    /// Let a key in, with what the operator was shown of it: its fingerprint, and what it proposes.
    Approve(AgentName, KeyMark, (Fingerprint, Proposal)),
    /// Forget a key.
    Reject(AgentName, Fingerprint),
    /// Set and remove labels.
    Label(String, Vec<String>),
    /// Accept what an agent proposes, as it was shown.
    Accept(AgentName, Proposal),
    /// End agents on their machines.
    StopAgents(Vec<AgentName>),
    /// Let the agents of a target take no new tasks, for a reason, or take them again.
    DrainAgents(String, Option<String>),
    /// Forget agents.
    DeleteAgents(Vec<AgentName>),
    /// Open a shell on an agent.
    Shell(AgentName),
    /// Make a join line for another machine.
    MakeJoinLine,
    /// Put text on the clipboard; say what it is.
    Copy(String, String),
    /// Put a task's output on the clipboard.
    CopyOutput(JobId, AgentName),
    /// Save tasks' output byte for byte into files of their own.
    Save(JobId, u64, Vec<AgentName>),
    /// Show a task's output in the pager.
    Pager(JobId, AgentName, Look),
    /// Edit a text in the editor.
    Edit(String),
    /// Keep a command in the history.
    Remember(String),
    /// Keep a line that is not finished.
    KeepDraft(String),
    /// Ring the bell.
    Bell,
    /// Draw everything anew.
    Redraw,
    /// Step aside until the shell brings the program back.
    Suspend,
    /// End the program.
    Quit,
}
