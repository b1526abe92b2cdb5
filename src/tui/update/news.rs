//! Handles messages from the master and the runtime.

use std::time::Duration;

use super::{
    super::{
        model::{
            Connection, Focus, Model, Overlay,
            command::MAX_HISTORY,
            job::{FollowKey, Followed, JobScreen},
        },
        msg::{Cmd, Msg},
        output::window::Window,
    },
    loading, searching, starting,
};
use crate::domain::{
    agent::{AgentState, AgentView},
    control::JobDigest,
    frame::Frame,
    ids::JobId,
    job::{Job, LeftOutKind, Task},
    name::AgentName,
    offset::OutputOffset,
    plan::GateState,
    text::{form, plural},
};

/// The maximum number of jobs in the history.
const MAX_JOBS: usize = 1_000;
/// The duration of a job from which on the bell rings at its end.
const BELL_AFTER: Duration = Duration::from_secs(10);

/// Applies a message that is not an input event.
pub(super) fn take(model: &mut Model, msg: Msg, cmds: &mut Vec<Cmd>) {
    match msg {
        Msg::Connected(status) => connected(model, *status, cmds),
        Msg::Disconnected { reason, retry_ms } => disconnected(model, reason, retry_ms),
        Msg::FleetBegins => model.fleet.begin(),
        Msg::Agents { agents, gone, waiting, is_complete } => {
            take_agents(model, agents, &gone, waiting);
            if is_complete {
                model.fleet.complete();
            }
        }
        Msg::Jobs { begins, jobs, deleted, is_complete } => {
            if begins {
                model.jobs.clear();
            }
            forget_jobs(model, &deleted);
            take_jobs(model, jobs, cmds);
            let lost = model.starting.as_ref().filter(|starting| is_complete && starting.is_unknown);
            if let Some(id) = lost.map(|starting| starting.id) {
                starting::not_started(model, id, "the connection broke before the master received it");
            }
        }
        Msg::Copied(text, what) => cmds.push(Cmd::Copy(text, what)),
        Msg::Digest(id, digest) => take_digest(model, id, *digest, cmds),
        Msg::WatchFailed(id, reason) => {
            if let Some(open) = model.open.as_mut().filter(|open| open.job.id == id) {
                open.is_over = true;
                open.is_loaded = true;
                model.complain(reason);
            }
        }
        Msg::Output { key, task, frames } => take_output(model, key, task, frames),
        Msg::Gap { key, task, from, to } => take_gap(model, key, task, (from, to), cmds),
        Msg::TaskEnded(key, task) => {
            let open = model.open.as_mut().filter(|open| open.job.id == key.job);
            match (open, key.what) {
                (Some(open), Followed::Stream) => open.stream.ended(task),
                (Some(_), Followed::Pane(task)) => read_end_again(model, key, task, cmds),
                _ => {}
            }
        }
        Msg::Earlier(job, task, window) => {
            let open = model.open.as_mut().filter(|open| open.job.id == job);
            let output = open.and_then(|open| open.output.as_mut());
            if let Some(output) = output.filter(|output| output.task == task) {
                output.is_loading = false;
                output.top.line += output.window.prepend(*window);
            }
        }
        Msg::Found(job, task, offset) => {
            if model.open.as_ref().is_some_and(|open| open.job.id == job) {
                model.following.remove(&FollowKey { job, what: Followed::Full(task) });
                cmds.push(Cmd::Unfollow(FollowKey { job, what: Followed::Full(task) }));
                searching::found(model, task, offset);
            }
        }
        Msg::Started(job) => started(model, *job),
        Msg::NotStarted(id, reason) => starting::not_started(model, id, &reason),
        Msg::TargetChanged(id, gone) => starting::target_changed(model, id, &gone),
        Msg::StartUnknown(id) => {
            // After the reconnection, the id of the job shows whether it was started.
            if let Some(starting) = model.starting.as_mut().filter(|starting| starting.id == id) {
                starting.is_unknown = true;
                model.complain("the connection broke while the command was sent; looking for its job");
            }
        }
        Msg::Recent(name, jobs) => model.recent = (name, jobs),
        Msg::Past(past) => {
            let from = past.len().saturating_sub(MAX_HISTORY);
            model.command.history = past[from..].to_vec();
        }
        Msg::Edited(text) => model.command.replace(text.trim_end_matches('\n')),
        Msg::Draft(text) => {
            model.command.replace(&text);
            model.say("the unfinished line of the last session is restored; nothing was sent");
        }
        Msg::Done(text) => model.say(text),
        Msg::NoJob(number) => {
            // A job that gets this number later is a different one.
            model.wanted_job.take_if(|wanted| *wanted == number);
            model.complain(format!("no such job: {number}"));
        }
        Msg::Failed(text) => model.complain(text),
        Msg::JoinLine(lines) => {
            let copy = lines.iter().find(|line| line.trim_start().starts_with("sloth-runner")).cloned();
            let copy = copy.map(|line| line.trim().to_owned());
            model.overlays.push(Overlay::Notice { title: "Add an agent".to_owned(), lines, copy, top: 0 });
        }
        Msg::Key(_)
        | Msg::Quiet
        | Msg::Paste(_)
        | Msg::Click(..)
        | Msg::Wheel(..)
        | Msg::Resized
        | Msg::Tick
        | Msg::Drawn(_)
        | Msg::Suspended
        | Msg::Continued
        | Msg::HangUp => {}
    }
}

fn take_agents(
    model: &mut Model,
    agents: Vec<AgentView>,
    gone: &[AgentName],
    waiting: Option<Vec<AgentView>>,
) {
    let was_offline = model.fleet.counts().of(AgentState::Offline);
    for agent in agents {
        model.fleet.put(agent);
    }
    notify_offline(model, was_offline);
    for name in gone {
        model.fleet.remove(name);
    }
    if let Some(keys) = waiting {
        let known = model.fleet.counts().of(AgentState::Pending);
        if keys.len() > known && model.fleet.is_complete {
            let new = keys.len() - known;
            model.say(format!("{new} new {} for approval", form(new, "key waits", "keys wait")));
        }
        model.fleet.set_pending_keys(keys);
    }
}

fn take_gap(
    model: &mut Model,
    key: FollowKey,
    task: u32,
    (from, to): (OutputOffset, OutputOffset),
    cmds: &mut Vec<Cmd>,
) {
    let Some(open) = model.open.as_mut().filter(|open| open.job.id == key.job) else { return };
    match key.what {
        Followed::Stream => open.stream.note_gap(task, from, to),
        _ => {
            if let Some(window) = window(open, key.what) {
                window.note_gap(from, to, 0);
            }
        }
    }
    let end = open.job.task(task).filter(|task| task.state.outcome().is_some()).map(|task| task.end_offset);
    if end.is_some_and(|end| to >= end) && matches!(key.what, Followed::Pane(_)) {
        read_end_again(model, key, task, cmds);
    }
}

/// Reads the end of a pane's output again if the master skipped it, because the pane was too slow for the job: nothing else
/// will follow.
fn read_end_again(model: &mut Model, key: FollowKey, task: u32, cmds: &mut Vec<Cmd>) {
    let Some(open) = model.open.as_mut() else { return };
    let is_cut = open.windows.get(&task).is_some_and(Window::ends_in_a_gap);
    // Once only: the log itself may lack the end.
    if is_cut && open.read_again.insert(task) && model.following.remove(&key) {
        cmds.push(Cmd::Unfollow(key));
        open.windows.remove(&task);
    }
}

/// Shows the number of offline agents when it grows, in a single message.
fn notify_offline(model: &mut Model, before: usize) {
    const END: &str = "offline; e in the fleet goes to each";
    let now = model.fleet.counts().of(AgentState::Offline);
    if !model.fleet.is_complete || now <= before {
        return;
    }
    model.toasts.retain(|toast| !toast.text.ends_with(END));
    model.say(format!("{now} {} {END}", plural("agent", now)));
}

fn connected(model: &mut Model, status: super::super::model::MasterStatus, cmds: &mut Vec<Cmd>) {
    model.status = status;
    if model.is_up() {
        return;
    }
    if matches!(model.connection, Connection::Down { .. }) {
        model.say("reconnected");
    }
    model.connection = Connection::Up;
    if let Some(open) = &mut model.open {
        // Watches and follows everything again from where it stopped.
        open.is_over = false;
    }
    if let Some(number) = model.wanted_job {
        cmds.push(Cmd::FindJob(number));
    }
}

fn disconnected(model: &mut Model, reason: String, retry_ms: u64) {
    let now = model.now.monotonic;
    let since = match model.connection {
        Connection::Down { since, .. } => since,
        Connection::Up | Connection::Connecting => now,
    };
    let next_try = now + std::time::Duration::from_millis(retry_ms);
    model.connection = Connection::Down { since, next_try, reason };
    if let Some(output) = model.open.as_mut().and_then(|open| open.output.as_mut()) {
        output.is_loading = false;
    }
}

fn take_jobs(model: &mut Model, jobs: Vec<Job>, cmds: &mut Vec<Cmd>) {
    for job in jobs {
        let before = model.jobs.get(&job.number).and_then(|known| known.ended_ms);
        let is_own = model.own_jobs.contains(&job.id);
        let has_just_ended = before.is_none() && job.ended_ms.is_some() && is_own;
        if has_just_ended {
            let failed = job.task_count - job.succeeded;
            let is_open = model.open.as_ref().is_some_and(|open| open.job.id == job.id);
            if !is_open {
                let end =
                    if failed == 0 { "all exited 0".to_owned() } else { format!("{failed} did not exit 0") };
                model.say(format!("job {} is over: {end}", job.number));
            }
        }
        if model.starting.as_ref().is_some_and(|starting| starting.id == job.id) {
            // The answer was lost, but the job has started.
            started(model, job.clone());
        }
        if let Some(open) =
            model.open.as_mut().filter(|open| open.job.id == job.id && open.job.ended_ms.is_none())
        {
            open.job.number = job.number;
        }
        let (id, number) = (job.id, job.number);
        model.jobs.insert(number, job);
        if has_just_ended && rings(model, id, number) {
            cmds.push(Cmd::Bell);
        }
    }
    while model.jobs.len() > MAX_JOBS {
        model.jobs.pop_first();
    }
    // 0 stands for the newest job.
    if let (Some(0), Some((newest, _))) = (model.wanted_job, model.jobs.last_key_value()) {
        model.wanted_job = Some(*newest);
    }
    if let Some(number) = model.wanted_job.take_if(|number| model.jobs.contains_key(number)) {
        if model.focus == Focus::Fleet && model.overlays.is_empty() {
            loading::open_job(model, number, cmds);
        } else {
            // A job that arrives late does not take the focus from the operator.
            model.say(format!("job {number} is available: [ and ] open it"));
        }
    }
}

fn started(model: &mut Model, job: Job) {
    model.starting.take_if(|starting| starting.id == job.id);
    model.own_jobs.insert(job.id);
    let new: Vec<&str> = job
        .left_out
        .iter()
        .filter(|left| left.kind == LeftOutKind::NewMatch)
        .map(|left| left.agent.as_str())
        .collect();
    if !new.is_empty() {
        let (count, names) = (new.len(), crate::domain::target::fold::fold(new));
        let matches = form(count, "match", "matches");
        model.say(format!("{count} more {matches} now ({names}), not included"));
    }
    model.jobs.insert(job.number, Job { tasks: Vec::new(), ..job.clone() });
    let focus = model.focus;
    let view = model.open.as_ref().map(|open| open.view).unwrap_or_default();
    let mut screen = JobScreen { view, ..JobScreen::new(job) };
    screen.is_loaded = !screen.job.tasks.is_empty();
    model.open = Some(screen);
    // The job gets the space, and the keys too, unless the operator types already or is elsewhere.
    model.room = Focus::Job;
    let is_waiting = focus == Focus::Command && model.command.is_blank() && model.overlays.is_empty();
    model.focus = if is_waiting { Focus::Job } else { focus };
}

fn take_digest(model: &mut Model, id: JobId, digest: JobDigest, cmds: &mut Vec<Cmd>) {
    let JobDigest { job, tasks, groups, more_groups, gate, ended_ms, closing: _ } = digest;
    let now = model.now;
    let Some(open) = model.open.as_mut().filter(|open| open.job.id == id) else { return };
    let was_held = matches!(open.job.gate.state, GateState::Held(_));
    let before = open.killed.len();
    if let Some(job) = job {
        open.job = *job;
    }
    for task in tasks {
        if let Some(known) = open.job.task_mut(task.index) {
            let was_open = known.state.outcome().is_none();
            if was_open && task.state.outcome().is_some_and(crate::domain::outcome::Outcome::killed_by_us) {
                open.killed.push(task.clone());
            }
            *known = task;
        }
    }
    open.is_loaded = true;
    (open.groups, open.more_groups, open.job.gate) = (groups, more_groups, gate);
    open.job.ended_ms = ended_ms.or(open.job.ended_ms);
    open.is_over = open.job.ended_ms.is_some();
    open.rows.update(&open.job, &open.groups, now.monotonic, now.unix_ms);
    open.assign_panes();
    let number = open.job.number;
    if open.is_over {
        model.watching = Some(id);
    }
    // The list of jobs is updated separately, and a moment later.
    let (ended_ms, tasks) = (open.job.ended_ms, &open.job.tasks);
    if let Some(known) = model.jobs.get_mut(&number) {
        let count = |wanted: fn(&Task) -> bool| {
            u32::try_from(tasks.iter().filter(|task| wanted(task)).count()).unwrap_or(u32::MAX)
        };
        known.succeeded = count(Task::has_succeeded);
        known.unfinished = count(|task| task.state.outcome().is_none());
        let has_just_ended = known.ended_ms.is_none() && ended_ms.is_some();
        known.ended_ms = ended_ms;
        if has_just_ended && rings(model, id, number) {
            cmds.push(Cmd::Bell);
        }
    }
    if let Some(open) = model.open.as_ref().filter(|open| open.killed.len() > before) {
        // The ends of one cancel arrive one after the other: the last report is of all.
        let (killed, report) = (open.killed.clone(), format!("job {number}: "));
        model
            .toasts
            .retain(|toast| !(toast.text.starts_with(&report) && toast.text.contains(" cancelled, ")));
        report_kill_result(model, number, &killed);
    }
    if model.is_held() && !was_held {
        cmds.push(Cmd::Bell);
    }
}

/// Reports whether the bell rings for the end of a job: a long job that was started in this session.
fn rings(model: &Model, id: JobId, number: u64) -> bool {
    let job = model.jobs.get(&number);
    let took = job.and_then(|job| Some(job.ended_ms?.since(job.created_ms)));
    let is_long = took.is_some_and(|took| took >= BELL_AFTER);
    model.settings.bell && is_long && model.own_jobs.contains(&id)
}

/// Removes deleted jobs. If the open job is one of them, the part that was read stays on the screen.
fn forget_jobs(model: &mut Model, deleted: &[JobId]) {
    model.jobs.retain(|_, job| !deleted.contains(&job.id));
    if let Some(open) = model.open.as_mut().filter(|open| deleted.contains(&open.job.id)) {
        open.is_over = true;
        let number = open.job.number;
        model.complain(format!("job {number} was deleted, with its output; the read part stays here"));
    }
}

/// Shows the result of a kill: `3 cancelled, 7 processes ended, 1 left: pid 4242 in disk wait`.
fn report_kill_result(model: &mut Model, number: u64, tasks: &[Task]) {
    use crate::domain::outcome::Ending;
    let (mut ended, mut left, mut left_count, mut unstarted) = (0u64, Vec::new(), 0, 0);
    for task in tasks {
        match task.state.outcome().map(|outcome| &outcome.ending) {
            Some(Ending::Cancelled { proof: Some(proof), .. } | Ending::TimedOut(proof)) => {
                ended += u64::from(proof.ended);
                left_count += proof.left_count();
                left.extend(
                    proof.left.iter().map(|one| format!("{}: pid {} in {}", task.agent, one.pid, one.state)),
                );
            }
            Some(Ending::Cancelled { proof: None, .. }) => unstarted += 1,
            _ => {}
        }
    }
    if tasks.is_empty() {
        return;
    }
    let not_begun = if unstarted > 0 { format!(", {unstarted} had not started") } else { String::new() };
    let word = if tasks.len() == 1 { tasks[0].agent.to_string() } else { format!("{} tasks", tasks.len()) };
    let rest = if left.is_empty() { String::new() } else { format!(": {}", left.join(", ")) };
    let text = format!(
        "job {number}: {word} cancelled, {ended} {} ended, {left_count} left{rest}{not_begun}",
        form(ended, "process", "processes"),
    );
    if left.is_empty() { model.say(text) } else { model.complain(text) }
}

fn window(open: &mut JobScreen, what: Followed) -> Option<&mut Window> {
    match what {
        Followed::Pane(task) => open.windows.get_mut(&task),
        Followed::Full(task) => {
            open.output.as_mut().filter(|output| output.task == task).map(|output| &mut output.window)
        }
        Followed::Stream => None,
    }
}

fn take_output(model: &mut Model, key: FollowKey, task: u32, frames: Vec<Frame>) {
    if !model.following.contains(&key) {
        return;
    }
    let (look, area) = (model.look, model.layout.job);
    let Some(open) = model.open.as_mut().filter(|open| open.job.id == key.job) else { return };
    if key.what == Followed::Stream {
        for frame in frames {
            open.stream.feed(task, frame);
        }
        return;
    }
    let Some(window) = window(open, key.what) else { return };
    let dropped = window.dropped();
    for frame in frames {
        window.feed(frame);
    }
    let dropped = usize::try_from(window.dropped() - dropped).unwrap_or(usize::MAX);
    if let (Followed::Full(_), Some(output)) = (key.what, &mut open.output) {
        // The visible lines stay in place.
        output.top.line = output.top.line.saturating_sub(dropped);
        searching::keep_in_view(output, look, area);
    }
}
