//! The event loop: reads keys, calls the master, and draws. Makes no decisions that `update` can make.

mod aside;
mod clipboard;
mod connection;
mod event_loop;
mod files;
mod following;
mod perform;
mod reading;
mod signals;

use self::event_loop::Runtime;
pub use self::{
    connection::News,
    event_loop::{Console, Options, drive, run},
};
