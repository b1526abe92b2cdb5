//! Applies a message to the model, and returns commands for the runtime. Pure: no I/O, and the time is an argument.

mod act;
mod agents;
mod answers;
mod asking;
mod editing;
mod focusing;
mod following;
mod keys;
mod loading;
mod looking;
mod message;
mod moving;
mod news;
mod picking;
mod prompts;
mod questions;
mod scrolling;
mod searching;
mod starting;
mod text_area;

pub use self::message::update;
