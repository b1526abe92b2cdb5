//! Output for the screen: turns bytes into lines of harmless, styled text, and holds some of them in windows.
//! Independent of keys, panes and the network.

pub mod line;
pub(crate) mod look;
pub mod maker;
pub(crate) mod matching;
pub(crate) mod rows;
pub(crate) mod window;
