//! The keymap, as data. Dispatch, hints, help, the palette and the man page all use it.

pub(crate) mod action;
pub(crate) mod bindings;
mod keys;

pub use self::{
    action::Action,
    bindings::BINDINGS,
    keys::{Binding, Context, Key, find, keys_of},
};
