//! Draws the model without changing it, and returns the layout. The cost of a frame depends only on what is
//! visible.

pub(in crate::tui) mod chrome;
mod fleet;
mod job;
mod overlays;
mod paint;
mod panes;
mod row;
mod screen;

use self::screen::panes;
pub use self::screen::view;
