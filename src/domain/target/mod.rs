//! Target expressions in ClusterShell's NodeSet language. Does not depend on the registry; the caller passes
//! the agents.
//!
//! Operands are evaluated strictly from left to right: `,` union, `!` difference, `&` intersection, `^`
//! symmetric difference. An operand is a name, a name with ranges (`web[01-20/2,7]`), a glob against the
//! registry, or a group: `@all`, `@KEY:VALUE` for labels, `@state:WORD`, `@link:WORD`.

mod expression;
pub mod fold;
pub mod names;
mod parse;
mod pattern;
pub mod selection;
pub mod selector;

pub use self::expression::{
    Candidate, InvalidTarget, MOST_NAMES, MOST_TEXT, MOST_WEIGHT, Matched, Target, UNKNOWN_SHOWN, glob,
    spelled_out,
};
use self::expression::{Group, MOST_COMPARISONS, Operands, Operator, Step};
