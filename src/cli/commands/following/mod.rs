//! Follows a job to its end, for `agent run`, `job attach` and `job logs`: as lines, groups, JSON or files.
//!
//! Losing the connection cancels nothing: the job continues, and following resumes at the byte where it stopped.

mod asking;
mod attention;
mod escapes;
mod events;
mod feeding;
mod files;
mod follow;
mod followed;
mod grouped;
mod lines;
mod object;
mod patience;
mod printer;
mod tally;
mod telling;
mod terminal;

use self::follow::{End, READER_GONE, cancel, question, reconnect, say_attach, say_held};
pub(super) use self::{
    files::OutDirectory,
    follow::{Begun, FollowOptions, Purpose, StdinUse, find_again, follow, without_status},
    telling::left_out,
};
