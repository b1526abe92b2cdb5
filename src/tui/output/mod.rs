//! Output on its way to the screen: bytes become lines of harmless, styled text, and windows hold some of them. Knows no keys,
//! panes or network.

pub mod line;
pub mod maker;
pub mod window;
