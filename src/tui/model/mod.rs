//! The state of the screen. Only `update` changes it. It holds windows of the data, not all of it.

pub mod command;
pub mod fleet;
pub mod job;
mod layout;
pub mod may;
pub mod rows;
mod state;

pub use self::{
    layout::{Area, Layout},
    state::{
        Asked, Choice, Connection, Focus, MasterStatus, Model, Now, Overlay, Prompt, PromptKind, Question,
        Starting, TOAST_DURATION, Toast,
    },
};
