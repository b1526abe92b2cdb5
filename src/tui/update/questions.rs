//! Questions before dangerous actions: type the number of agents, or the name of the agent, and Enter. Anything else cancels.

use std::time::Duration;

use crossterm::event::KeyCode;

use super::super::{
    keymap::Key,
    model::{Asked, Model, Overlay, Question},
};

/// Keys within this time were typed before the question could be read.
const MIN_READING_TIME: Duration = Duration::from_millis(300);

/// Shows a question, and remembers what to do with the answer.
pub(super) fn ask(model: &mut Model, text: String, expects: String, asked: Asked) {
    let from = model.now.monotonic + MIN_READING_TIME;
    let question = Question { text, expects, typed: String::new(), asked, from };
    model.overlays.push(Overlay::Question(question));
}

/// Returns the text that confirms an action on these agents.
pub(super) fn confirmation_text(names: &[&str]) -> String {
    match names {
        [name] => (*name).to_owned(),
        names => names.len().to_string(),
    }
}

/// Handles a key while a question is open. Returns what the operator agrees to with it.
pub(super) fn key(model: &mut Model, key: Key) -> Option<Asked> {
    let now = model.now.monotonic;
    let Some(Overlay::Question(question)) = model.overlays.last_mut() else { return None };
    if now < question.from {
        return None;
    }
    let is_quit = question.asked == Asked::Quit;
    match (key.code, key.typed()) {
        (_, Some(sign)) if is_quit => {
            let agrees = sign == 'y';
            model.overlays.pop();
            return agrees.then_some(Asked::Quit);
        }
        (_, Some(sign)) if question.expects.starts_with(&format!("{}{sign}", question.typed)) => {
            question.typed.push(sign);
        }
        (KeyCode::Backspace, _) => drop(question.typed.pop()),
        (KeyCode::Enter, _) if !is_quit && question.typed == question.expects => {
            let asked = question.asked.clone();
            model.overlays.pop();
            return Some(asked);
        }
        // Any other key means no.
        _ => {
            let was_run = question.asked == Asked::Run;
            model.overlays.pop();
            model.asked_job = None;
            if !is_quit {
                model.say(if was_run {
                    "nothing was started; your line is kept"
                } else {
                    "nothing was done"
                });
            }
        }
    }
    None
}
