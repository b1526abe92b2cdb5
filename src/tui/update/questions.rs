//! Questions before actions: `y` where little is at stake; otherwise the number of agents, or the name of the agent, and
//! Enter. Anything else means no.

use std::time::Duration;

use crossterm::event::KeyCode;

use super::super::{
    keymap::Key,
    model::{Asked, Confirmation, Model, Overlay, Question},
};

/// Keys within this time were typed before the question could be read. Each of them begins the time again, so that a
/// typed word answers nothing.
const MIN_READING_TIME: Duration = Duration::from_millis(300);

/// Shows a question, and remembers what to do with the answer.
pub(super) fn ask(model: &mut Model, text: String, expects: Confirmation, asked: Asked) {
    let from = model.now.monotonic + MIN_READING_TIME;
    let question = Question { text, expects, typed: String::new(), asked, from };
    model.overlays.push(Overlay::Question(question));
}

/// Returns the text that confirms an action on these agents.
pub(super) fn by_name(names: &[&str]) -> Confirmation {
    Confirmation::Text(match names {
        [name] => (*name).to_owned(),
        names => names.len().to_string(),
    })
}

/// Returns what confirms an action on a number of agents: the number if it is large.
pub(super) fn by_count(model: &Model, count: usize) -> Confirmation {
    if count > model.settings.confirm_over {
        Confirmation::Text(count.to_string())
    } else {
        Confirmation::Yes
    }
}

/// Reports whether a key would confirm the open question.
pub(super) fn confirms(model: &Model, key: Key) -> bool {
    let Some(Overlay::Question(question)) = model.overlays.last() else { return false };
    match &question.expects {
        Confirmation::Yes => key.typed() == Some('y'),
        Confirmation::Text(text) => key == Key::plain(KeyCode::Enter) && question.typed == *text,
    }
}

/// Ignores a key that was typed before the question could be read. Reports whether it was.
pub(super) fn is_early(model: &mut Model) -> bool {
    let now = model.now.monotonic;
    let Some(Overlay::Question(question)) = model.overlays.last_mut() else { return false };
    let is_early = now < question.from;
    if is_early {
        question.from = now + MIN_READING_TIME;
    }
    is_early
}

/// Closes the question with a yes. Returns what the operator agrees to.
pub(super) fn agree(model: &mut Model) -> Option<Asked> {
    match model.overlays.pop() {
        Some(Overlay::Question(question)) => Some(question.asked),
        other => {
            model.overlays.extend(other);
            None
        }
    }
}

/// Handles a key that does not confirm the question: a part of the text that does, or else a no.
pub(super) fn key(model: &mut Model, key: Key) {
    let Some(Overlay::Question(question)) = model.overlays.last_mut() else { return };
    if let Confirmation::Text(expects) = &question.expects {
        match key.typed() {
            Some(sign) if expects.starts_with(&format!("{}{sign}", question.typed)) => {
                return question.typed.push(sign);
            }
            _ if key.code == KeyCode::Backspace => {
                question.typed.pop();
                return;
            }
            _ => {}
        }
    }
    let text = match question.asked {
        Asked::Quit => "",
        Asked::Run => "nothing was started; your line is kept",
        _ => "nothing was done",
    };
    model.overlays.pop();
    model.asked_job = None;
    if !text.is_empty() {
        model.say(text);
    }
}
