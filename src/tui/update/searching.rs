//! Search in outputs and in the stream. What is not loaded is searched by the master's log.

use super::{
    super::{
        model::{
            Focus, Model,
            job::{Output, StreamLines},
        },
        msg::Cmd,
        output::{
            look::{DisplayOptions, Streams},
            matching::Needle,
            rows::Position,
        },
    },
    scrolling,
};
use crate::{domain::offset::OutputOffset, tui::model::Area};

/// Moves to the next or previous line that contains the searched text; in the fleet, to the next or previous
/// row.
pub(super) fn next(model: &mut Model, forwards: bool, cmds: &mut Vec<Cmd>) {
    if model.focus == Focus::Fleet {
        model.fleet.move_cursor(if forwards { 1 } else { -1 });
        return;
    }
    let (look, area) = (model.look, model.layout.job);
    let is_up = model.is_up();
    let Some(open) = &mut model.open else { return };
    let job = open.job.id;
    if open.search.is_empty() {
        return model.say("/ searches");
    }
    let needle = Needle::new(&open.search);
    let Some(output) = &mut open.output else {
        if !next_in_stream(&mut open.stream, look.streams, &needle, forwards, area.rows()) {
            let text = format!("no {:?} {} here", open.search, if forwards { "after" } else { "before" });
            model.say(text);
        }
        return;
    };
    let last = output.window.len();
    let here = match output.found {
        Some(offset) => output.window.place_of(offset),
        None if forwards => 0,
        None => last,
    };
    let has = |at: &usize| {
        let line = output.window.line(*at);
        line.is_some_and(|line| look.streams.shows(line.source) && needle.is_in(&line.text))
    };
    let skip = usize::from(output.found.is_some());
    let found = if forwards { (here + skip..last).find(has) } else { (0..here.min(last)).rev().find(has) };
    if let Some(at) = found {
        show_line(output, at, look, area);
        return;
    }
    let task = output.task;
    let (from, search) =
        (if forwards { output.window.next() } else { output.window.from() }, open.search.clone());
    let has_more = if forwards { !output.follows } else { from > OutputOffset::START };
    let agent = open.job.task(task).map(|task| task.agent.clone());
    match agent.filter(|_| has_more && is_up) {
        Some(agent) => {
            model.say(format!("searching for {search:?} …"));
            let streams = look.streams;
            cmds.push(Cmd::Search { job, task, agent, text: search, streams, from, forwards });
        }
        None => model.say(format!("no {search:?} {} here", if forwards { "after" } else { "before" })),
    }
}

/// Searches in the stream, which holds only its newest lines. Reports whether a line was found.
fn next_in_stream(
    stream: &mut StreamLines,
    streams: Streams,
    needle: &Needle,
    forwards: bool,
    page: usize,
) -> bool {
    let count = stream.lines.len();
    let has = |at: &usize| {
        let line = &stream.lines[*at].1;
        streams.shows(line.source) && needle.is_in(&line.text)
    };
    let found = match (stream.found_at(), forwards) {
        (Some(here), true) => (here + 1..count).find(has),
        (None, true) => (0..count).find(has),
        (here, false) => (0..here.unwrap_or(count)).rev().find(has),
    };
    if let Some(at) = found {
        stream.show(at, page);
    }
    found.is_some()
}

/// Scrolls a line of the window to the middle of the screen.
fn show_line(output: &mut Output, at: usize, look: DisplayOptions, area: Area) {
    output.found = output.window.line(at).map(|line| line.offset);
    output.follows = false;
    output.top = scrolling::rows(&output.window, look, area).around(at);
}

/// Keeps the found line in the middle while the output around it is being read.
pub(super) fn keep_in_view(output: &mut Output, look: DisplayOptions, area: Area) {
    if let Some(offset) = output.found.filter(|offset| output.window.next() > *offset && !output.follows)
        && output.top == Position::default()
    {
        let at = output.window.place_of(offset);
        output.top = scrolling::rows(&output.window, look, area).around(at);
    }
}

/// Handles the result of a search outside the window.
pub(super) fn found(model: &mut Model, task: u32, offset: Option<OutputOffset>) {
    let Some(open) = &mut model.open else { return };
    if open.output.as_ref().is_none_or(|output| output.task != task) {
        return;
    }
    let Some(offset) = offset else {
        let text = format!("{:?} was not found", open.search);
        return model.say(text);
    };
    // The window is read again around the found line.
    let mut anew = Output::new(task, offset - scrolling::EARLIER_OUTPUT_BYTES);
    anew.found = Some(offset);
    anew.follows = false;
    open.output = Some(anew);
}
