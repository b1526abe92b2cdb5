//! Parses a target, and reports the position of an error.

use std::str::FromStr;

use super::{
    Group, InvalidTarget, MOST_COMPARISONS, MOST_NAMES, MOST_TEXT, MOST_WEIGHT, Operands, Operator, Step,
    Target,
    pattern::{Pattern, Wrong},
};
use crate::domain::{
    agent::{AgentState, LinkKind},
    name::{AgentName, LabelWord},
};

/// A word between two operators.
struct Piece<'a> {
    operator: Operator,
    /// The index of the character at which the word begins.
    at: usize,
    word: &'a str,
}

/// The remaining cost that an expression can have. It is counted before anything is expanded or compared.
struct Budget {
    names: u64,
    weight: u64,
}

impl Budget {
    /// Checks that the names are few enough to be compared with the globs, groups and ranges.
    fn check(&self) -> Result<(), Wrong> {
        let (names, weight) = (MOST_NAMES - self.names, MOST_WEIGHT - self.weight);
        if names * weight > MOST_COMPARISONS {
            return Err(Wrong::new(
                0,
                format!(
                    "the target has {names} names and {weight} globs, groups and ranges, which together are too many; a label selects any number of agents"
                ),
            ));
        }
        Ok(())
    }

    /// Takes the cost of names that are listed.
    fn take_names(&mut self, count: u64) -> Result<(), Wrong> {
        self.names = self.names.checked_sub(count).ok_or_else(|| {
            Wrong::new(
                0,
                format!("the target lists over {MOST_NAMES} names; a label or a glob selects any number"),
            )
        })?;
        Ok(())
    }

    /// Takes the cost of globs, groups and ranges with which each agent is compared.
    fn take_weight(&mut self, weight: u64) -> Result<(), Wrong> {
        self.weight = self.weight.checked_sub(weight).ok_or_else(|| {
            Wrong::new(
                0,
                format!("the target has over {MOST_WEIGHT} globs, groups and ranges; a label selects any number of agents"),
            )
        })?;
        Ok(())
    }
}

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let fail = |at: usize, problem: String| InvalidTarget { text: text.to_owned(), at, problem };
        if text.len() > MOST_TEXT {
            let problem = format!("the target has {} bytes; at most {MOST_TEXT} are allowed", text.len());
            return Err(fail(0, problem));
        }
        let mut budget = Budget { names: MOST_NAMES, weight: MOST_WEIGHT };
        let mut steps: Vec<Step> = Vec::new();
        let mut plain_name = None;
        let pieces = split(text);
        let is_alone = pieces.len() == 1;
        for piece in pieces {
            let fail = |wrong: Wrong| fail(piece.at + wrong.at, format!("invalid target: {}", wrong.problem));
            let pattern = Pattern::parse(piece.word).map_err(fail)?;
            let is_first_name = steps.is_empty() && is_alone && pattern.is_plain();
            let may_join = matches!(piece.operator, Operator::Union | Operator::Difference);
            let step = match steps.last_mut() {
                Some(last) if may_join && last.operator == piece.operator => last,
                _ => {
                    budget.take_weight(1).map_err(fail)?;
                    steps.push(Step { operator: piece.operator, operands: Operands::default() });
                    let last = steps.len() - 1;
                    &mut steps[last]
                }
            };
            read_operand(piece.word, pattern, &mut step.operands, &mut budget).map_err(fail)?;
            if is_first_name {
                plain_name = step.operands.names.iter().next().cloned();
            }
        }
        budget.check().map_err(|wrong| fail(wrong.at, wrong.problem))?;
        Ok(Self { text: text.trim().to_owned(), steps, plain_name })
    }
}

/// Splits an expression at its operators. A comma inside brackets is not an operator.
fn split(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut operator, mut from, mut at) = (Operator::Union, 0, 0);
    let mut in_brackets = false;
    for (character, (byte, sign)) in text.char_indices().enumerate() {
        let next = match sign {
            '[' | ']' => {
                in_brackets = sign == '[';
                continue;
            }
            ',' if !in_brackets => Operator::Union,
            '!' => Operator::Difference,
            '&' => Operator::Intersection,
            '^' => Operator::SymmetricDifference,
            _ => continue,
        };
        pieces.push(piece(operator, at, &text[from..byte]));
        (operator, from, at) = (next, byte + sign.len_utf8(), character + 1);
        in_brackets = false;
    }
    pieces.push(piece(operator, at, &text[from..]));
    pieces
}

fn piece(operator: Operator, at: usize, word: &str) -> Piece<'_> {
    let lead = word.chars().take_while(|sign| sign.is_whitespace()).count();
    Piece { operator, at: at + lead, word: word.trim() }
}

fn read_operand(
    word: &str,
    pattern: Pattern,
    operands: &mut Operands,
    budget: &mut Budget,
) -> Result<(), Wrong> {
    if word.is_empty() {
        return Err(Wrong::new(
            0,
            "a name, a glob or a group is missing here, as in web-1,web-* or @role:web",
        ));
    }
    if word.starts_with('@') {
        budget.take_weight(pattern.count())?;
        for word in pattern.words() {
            operands.groups.push(group(&word)?);
        }
        return Ok(());
    }
    // Wildcards are replaced by a letter for the check, so that other invalid characters are found.
    let longest = name(word, &pattern.longest().replace(['*', '?'], "x"))?;
    if word.contains(['*', '?']) {
        budget.take_weight(pattern.count())?;
        operands.globs.extend(pattern.words());
        return Ok(());
    }
    budget.take_names(pattern.count())?;
    if pattern.is_plain() {
        operands.names.insert(longest);
    } else {
        budget.take_weight(pattern.weight())?;
        operands.patterns.push(pattern);
    }
    Ok(())
}

fn name(word: &str, expanded: &str) -> Result<AgentName, Wrong> {
    expanded.parse().map_err(|error| {
        let allowed = |sign: char| sign.is_ascii_alphanumeric() || "._-[]*?,/".contains(sign);
        let at = word.chars().position(|sign| !allowed(sign)).unwrap_or(0);
        Wrong::new(at, format!("{error}"))
    })
}

/// Parses a group, including its `@`.
fn group(word: &str) -> Result<Group, Wrong> {
    let inside = &word[1..];
    let Some((key, value)) = inside.split_once(':') else {
        return match inside {
            "all" | "*" => Ok(Group::All),
            _ => Err(Wrong::new(
                0,
                format!(
                    "no such group: {word}; write @all, @KEY:VALUE for a label, @state:active or @link:tunnel"
                ),
            )),
        };
    };
    let value_at = key.chars().count() + 2;
    match key {
        "all" => Err(Wrong::new(4, "@all takes no value")),
        "state" => {
            let states = [
                AgentState::Active,
                AgentState::Late,
                AgentState::Offline,
                AgentState::Draining,
                AgentState::Pending,
            ];
            let found = states.into_iter().find(|state| state.word() == value);
            let words: Vec<_> = states[..4].iter().map(|state| state.word()).collect();
            let problem = format!("no such state: {value:?}; use {}", words.join(", "));
            found.map(Group::State).ok_or_else(|| Wrong::new(value_at, problem))
        }
        "link" => match value {
            "direct" => Ok(Group::Link(LinkKind::Direct)),
            "tunnel" => Ok(Group::Link(LinkKind::Tunnel)),
            _ => Err(Wrong::new(value_at, format!("no such link: {value:?}; use direct or tunnel"))),
        },
        key => {
            let is_word = |text: &str| LabelWord::try_from(text.replace(['*', '?'], "x")).is_ok();
            if !is_word(key) || key.contains(['*', '?']) {
                return Err(Wrong::new(1, format!("{key:?} cannot be a label's key")));
            }
            if !is_word(value) {
                return Err(Wrong::new(value_at, format!("{value:?} cannot be a label's value")));
            }
            Ok(Group::Label(key.to_owned(), value.to_owned()))
        }
    }
}
