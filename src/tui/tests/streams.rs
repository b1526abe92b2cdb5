//! Tests of the stream of all tasks: gaps, and lines without a newline at the end.

use super::harness::{World, frame, sketch};
use crate::{
    domain::offset::OutputOffset,
    tui::{
        model::job::{FollowKey, Followed},
        msg::Msg,
    },
};

#[test]
fn the_stream_shows_what_is_missing_and_last_lines_without_an_end() {
    let mut world = sketch((120, 40));
    world.press("2 v v");
    let job = world.model.open.as_ref().unwrap().job.id;
    let key = FollowKey { job, what: Followed::Stream };
    world.put(Msg::Output { key, task: 3, frames: vec![frame(0, "whole\n277")] });
    world.put(Msg::Gap { key, task: 3, from: OutputOffset(9), to: OutputOffset(3_009) });
    world.put(Msg::Output { key, task: 3, frames: vec![frame(3_009, "95512\n")] });
    world.put(Msg::Output { key, task: 4, frames: vec![frame(0, "result 42")] });
    let texts = |world: &World| -> Vec<String> {
        world.model.open.as_ref().unwrap().stream.lines.iter().map(|(_, line)| line.text.clone()).collect()
    };
    let printed = ["whole", "277", "3.0 kB are not shown here", "95512"];
    assert_eq!(texts(&world), printed);
    world.put(Msg::TaskEnded(key, Some(4)));
    assert_eq!(texts(&world)[4..], ["result 42"]);
    world.put(Msg::Output { key, task: 5, frames: vec![frame(0, "no end")] });
    world.put(Msg::TaskEnded(key, None));
    assert_eq!(texts(&world)[5..], ["no end"]);
}
