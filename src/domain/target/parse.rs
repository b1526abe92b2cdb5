//! From text to a target, or to the character that is wrong.

use std::str::FromStr;

use super::{
    Group, InvalidTarget, MOST_NAMES, Operand, Operator, Target,
    pattern::{Pattern, Wrong},
};
use crate::domain::{
    agent::AgentState,
    name::{AgentName, LabelWord},
};

/// A piece between two operators.
struct Piece<'a> {
    operator: Operator,
    /// The character at which its word begins.
    at: usize,
    word: &'a str,
}

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let mut operands = Vec::new();
        let mut plain_name = None;
        let mut spelled_out = 0;
        let pieces = split(text);
        let is_alone = pieces.len() == 1;
        for piece in pieces {
            let fail = |wrong: Wrong| InvalidTarget {
                text: text.to_owned(),
                at: piece.at + wrong.at,
                problem: format!("the target makes no sense: {}", wrong.problem),
            };
            let pattern = Pattern::parse(piece.word).map_err(fail)?;
            let operand = operand(piece.word, &pattern).map_err(fail)?;
            if let Operand::Names(names) = &operand {
                spelled_out += names.len();
                if spelled_out > MOST_NAMES {
                    return Err(fail(Wrong::new(0, format!("these are over {MOST_NAMES} names"))));
                }
                if is_alone && pattern.is_plain() {
                    plain_name = names.first().cloned();
                }
            }
            operands.push((piece.operator, operand));
        }
        Ok(Self { text: text.trim().to_owned(), operands, plain_name })
    }
}

/// The words between operators; a comma inside brackets is none.
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

fn operand(word: &str, pattern: &Pattern) -> Result<Operand, Wrong> {
    if word.is_empty() {
        return Err(Wrong::new(
            0,
            "a name, a glob or a group is missing here, as in web-1,web-* or @role:web",
        ));
    }
    if word.starts_with('@') {
        let groups = pattern.words()?.iter().map(|word| group(word)).collect::<Result<_, _>>()?;
        return Ok(Operand::Groups(groups));
    }
    let words = pattern.words()?;
    if word.contains(['*', '?']) {
        for glob in &words {
            // Checked as a name with its wild cards filled in, so that typing errors show.
            name(word, &glob.replace(['*', '?'], "x"))?;
        }
        return Ok(Operand::Globs(words));
    }
    words.iter().map(|expanded| name(word, expanded)).collect::<Result<_, _>>().map(Operand::Names)
}

fn name(word: &str, expanded: &str) -> Result<AgentName, Wrong> {
    expanded.parse().map_err(|error| {
        let allowed = |sign: char| sign.is_ascii_alphanumeric() || "._-[]*?,/".contains(sign);
        let at = word.chars().position(|sign| !allowed(sign)).unwrap_or(0);
        Wrong::new(at, format!("{error}"))
    })
}

/// Reads a group, `@` included.
fn group(word: &str) -> Result<Group, Wrong> {
    let inside = &word[1..];
    let Some((key, value)) = inside.split_once(':') else {
        return match inside {
            "all" | "*" => Ok(Group::All),
            _ => Err(Wrong::new(
                0,
                format!(
                    "there is no group {word}: write @all, @KEY:VALUE for a label, @state:active or @link:tunnel"
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
            let problem = format!("there is no state {value:?}: write {}", words.join(", "));
            found.map(Group::State).ok_or_else(|| Wrong::new(value_at, problem))
        }
        "link" => match value {
            "direct" => Ok(Group::Link(true)),
            "tunnel" => Ok(Group::Link(false)),
            _ => Err(Wrong::new(value_at, format!("there is no link {value:?}: write direct or tunnel"))),
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
