//! Questions before dangerous actions: type the number of agents, or the name of the agent, and Enter. Anything else cancels.

use std::time::Duration;

use crossterm::event::KeyCode;

use super::{
    super::{
        keymap::Key,
        model::{Asked, Model, Overlay, Question},
        msg::Cmd,
    },
    starting,
};

use crate::domain::code::KeyMark;

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

/// Handles a key while a question is open.
pub(super) fn key(model: &mut Model, key: Key, cmds: &mut Vec<Cmd>) {
    let now = model.now.monotonic;
    let Some(Overlay::Question(question)) = model.overlays.last_mut() else { return };
    if now < question.from {
        return;
    }
    let is_quit = question.asked == Asked::Quit;
    match (key.code, key.typed()) {
        (_, Some(sign)) if is_quit => {
            let quits = sign == 'y';
            model.overlays.pop();
            if quits {
                super::act::quit(model, cmds);
            }
        }
        (_, Some(sign)) if question.expects.starts_with(&format!("{}{sign}", question.typed)) => {
            question.typed.push(sign);
        }
        (KeyCode::Backspace, _) => drop(question.typed.pop()),
        (KeyCode::Enter, _) if !is_quit && question.typed == question.expects => {
            let asked = question.asked.clone();
            model.overlays.pop();
            answered(model, asked, cmds);
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
}

fn answered(model: &mut Model, asked: Asked, cmds: &mut Vec<Cmd>) {
    match asked {
        Asked::Run => starting::send(model, cmds),
        Asked::Cancel(job, tasks) => cmds.push(Cmd::Cancel(job, tasks)),
        Asked::Quit => super::act::quit(model, cmds),
        Asked::Accept(name, proposed) => cmds.push(Cmd::Accept(name, proposed)),
        Asked::Approve(row, proposed) => {
            if let Some(digits) = row.waiting {
                cmds.push(Cmd::Approve(row.name, KeyMark::Digits(digits.to_string()), (digits, proposed)));
                model.overlays.clear();
            }
        }
        Asked::Reject(row) => {
            if let Some(digits) = row.waiting {
                cmds.push(Cmd::Reject(row.name, digits));
                model.overlays.clear();
            }
        }
        Asked::DrainAgents(target, reason) => cmds.push(Cmd::DrainAgents(target, Some(reason))),
        Asked::StopAgents(names) => cmds.push(Cmd::StopAgents(names)),
        Asked::DeleteAgents(names) => cmds.push(Cmd::DeleteAgents(names)),
    }
}
