//! What commands print, on its way to the screen: bytes become lines of harmless, styled text, and windows hold some.
//! Knows no keys, no panes and no network.

pub mod line;
pub mod maker;
pub mod window;
