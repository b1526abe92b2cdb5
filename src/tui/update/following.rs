//! Determines what is streamed from the master: only the open job, and only its visible outputs.

use std::collections::BTreeSet;

use super::{
    super::{
        model::{
            Focus, Model,
            job::{FollowKey, Followed, JobScreen, View},
        },
        msg::Cmd,
        output::window::{PANE_CAPACITY, Window},
    },
    loading::tail_offset,
};
use crate::domain::offset::OutputOffset;

/// Returns the outputs of the open job that the screen needs now.
fn wanted(model: &Model) -> BTreeSet<Followed> {
    let mut wanted = BTreeSet::new();
    let Some(open) = &model.open else { return wanted };
    if !open.is_loaded {
        return wanted;
    }
    if let Some(output) = &open.output {
        if output.follows || output.window.next() == output.window.from() || output.found.is_some() {
            wanted.insert(Followed::Full(output.task));
        }
        return wanted;
    }
    let is_shown = model.room != Focus::Fleet || !model.is_zoomed;
    if !is_shown {
        return wanted;
    }
    if open.view == View::Stream {
        wanted.insert(Followed::Stream);
        return wanted;
    }
    wanted.extend(model.layout.panes.iter().map(|(task, _)| Followed::Pane(*task)));
    if model.layout.shows_preview
        && let Some(row) = open.rows.current()
    {
        wanted.insert(Followed::Pane(row.example));
        if let Some((before, after)) = open.compared() {
            wanted.extend([Followed::Pane(before), Followed::Pane(after)]);
        }
    }
    wanted
}

/// Returns the offsets from which an output is followed. Creates the window of a pane if it has none.
fn begin(open: &mut JobScreen, what: Followed) -> (OutputOffset, Vec<(u32, OutputOffset)>) {
    match what {
        Followed::Pane(task) => {
            let end = open.job.task(task).map_or(OutputOffset::START, |task| task.end_offset);
            let window =
                open.windows.entry(task).or_insert_with(|| Window::new(PANE_CAPACITY, tail_offset(end)));
            (window.next(), Vec::new())
        }
        Followed::Full(_) => {
            (open.output.as_ref().map_or(OutputOffset::START, |output| output.window.next()), Vec::new())
        }
        Followed::Stream => {
            (OutputOffset::START, open.stream.seen.iter().map(|(task, end)| (*task, *end)).collect())
        }
    }
}

/// Starts to follow the outputs that are needed, and stops following the others.
pub(super) fn reconcile(model: &mut Model, cmds: &mut Vec<Cmd>) {
    if !model.is_up() {
        model.following.clear();
        model.watching = None;
        return;
    }
    let watched = model.open.as_ref().filter(|open| !open.is_over || model.watching == Some(open.job.id));
    let watched = watched.map(|open| (open.job.id, open.masks));
    if let Some((job, masks)) = watched.filter(|(job, _)| model.watching != Some(*job)) {
        model.watching = Some(job);
        cmds.push(Cmd::Watch(job, masks));
    }
    let Some(job) = model.open.as_ref().map(|open| open.job.id) else { return };
    let wanted = wanted(model);
    let gone = |key: &FollowKey| key.job != job || !wanted.contains(&key.what);
    let left: Vec<FollowKey> = model.following.iter().filter(|key| gone(key)).copied().collect();
    for key in left {
        model.following.remove(&key);
        cmds.push(Cmd::Unfollow(key));
        if let (Followed::Pane(task), Some(open)) = (key.what, &mut model.open)
            && key.job == job
        {
            // A pane that is shown again starts at the end of the output.
            open.windows.remove(&task);
        }
    }
    let Some(open) = &mut model.open else { return };
    for what in wanted {
        let key = FollowKey { job, what };
        if model.following.insert(key) {
            let agent = match what {
                Followed::Pane(task) | Followed::Full(task) => open.agent(task).cloned(),
                Followed::Stream => None,
            };
            let (from_offset, seen) = begin(open, what);
            cmds.push(Cmd::Follow { key, agent, from_offset, seen });
        }
    }
}
