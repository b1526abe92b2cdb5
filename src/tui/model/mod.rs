//! The state of the screen. Only `update` changes it. It holds windows of the data, not all of it.

pub(crate) mod burst;
pub(crate) mod command;
pub(crate) mod difference;
mod filter;
pub(crate) mod fleet;
pub mod job;
mod layout;
pub(crate) mod may;
pub(crate) mod rows;
mod state;

pub use self::{
    layout::{Area, Layout},
    state::{
        Asked, Choice, Confirmation, Connection, Focus, Loadable, MasterStatus, Message, Model, Now, Overlay,
        Prompt, PromptKind, Question, Starting, TOAST_DURATION, Toast,
    },
};
