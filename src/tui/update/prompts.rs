//! Prompts for a line of text: filters, targets, searches, options, the palette. Where possible, results are
//! shown while typing.

use super::{
    super::{
        keymap::{Action, Key},
        model::{Choice, Model, Overlay, Prompt, PromptKind, command},
        msg::Cmd,
    },
    agents, searching, text_area,
};
use crate::domain::{
    code::{Code, KeyMark},
    target::Target,
};

/// Opens a prompt.
pub(super) fn open(model: &mut Model, kind: PromptKind) {
    let text = match kind {
        PromptKind::Filter => model.fleet.filter.clone(),
        PromptKind::Target => model.fleet.picks.target.as_ref().map(ToString::to_string).unwrap_or_default(),
        PromptKind::Search => model.open.as_ref().map(|open| open.search.clone()).unwrap_or_default(),
        PromptKind::Options => model.command.options.clone(),
        PromptKind::HistoryFilter => match model.overlays.last() {
            Some(Overlay::History { filter, .. }) => filter.clone(),
            _ => String::new(),
        },
        PromptKind::Palette
        | PromptKind::Past
        | PromptKind::Label
        | PromptKind::DrainReason
        | PromptKind::Code => String::new(),
    };
    model.overlays.push(Overlay::Prompt(Box::new(Prompt::new(kind, &text))));
}

/// Handles a key that has no binding in a prompt.
pub(super) fn key(model: &mut Model, key: Key) {
    if let Some(Overlay::Prompt(prompt)) = model.overlays.last_mut() {
        text_area::edit(&mut prompt.text, key);
        prompt.choice = 0;
    }
    changed(model);
}

/// Handles a change of the text: checks it, and applies filters immediately.
pub(super) fn changed(model: &mut Model) {
    let Some(Overlay::Prompt(prompt)) = model.overlays.last_mut() else { return };
    let text = prompt.value();
    prompt.problem.clear();
    match prompt.kind {
        PromptKind::Filter => {
            model.fleet.filter = text;
            model.fleet.is_stale = true;
        }
        PromptKind::Target if !text.trim().is_empty() => {
            if let Err(error) = text.trim().parse::<Target>() {
                prompt.problem = error.problem;
            }
        }
        PromptKind::Options => {
            if let Err(problem) = (model.settings.read_options)(&text) {
                prompt.problem = problem;
            }
        }
        PromptKind::HistoryFilter => {
            let at = model.overlays.len().saturating_sub(2);
            if let Some(Overlay::History { filter, cursor }) = model.overlays.get_mut(at) {
                (*filter, *cursor) = (text, 0);
            }
        }
        PromptKind::Target
        | PromptKind::Search
        | PromptKind::Palette
        | PromptKind::Past
        | PromptKind::Label
        | PromptKind::DrainReason
        | PromptKind::Code => {}
    }
}

/// Moves the cursor in the choices.
pub(super) fn choose(model: &mut Model, by: isize) {
    let Some(Overlay::Prompt(prompt)) = model.overlays.last() else { return };
    let count = model.choices(prompt).len();
    if let Some(Overlay::Prompt(prompt)) = model.overlays.last_mut() {
        prompt.choice = prompt.choice.saturating_add_signed(by).min(count.saturating_sub(1));
    }
}

/// Closes the prompt and restores the text that it had at the beginning.
pub(super) fn abandon(model: &mut Model) {
    if let Some(Overlay::Prompt(prompt)) = model.overlays.last_mut() {
        prompt.text = command::text_area(&prompt.before.clone());
        changed(model);
        model.overlays.pop();
    }
}

/// Confirms the text or the choice. Returns the action that was chosen in the palette.
pub(super) fn accept(model: &mut Model, cmds: &mut Vec<Cmd>) -> Option<Action> {
    let Some(Overlay::Prompt(prompt)) = model.overlays.last() else { return None };
    let (kind, text) = (prompt.kind, prompt.value());
    let choice = model.choices(prompt).into_iter().nth(prompt.choice);
    match kind {
        PromptKind::Filter | PromptKind::HistoryFilter => drop(model.overlays.pop()),
        PromptKind::Target => take_target(model, text.trim()),
        PromptKind::Search => {
            model.overlays.pop();
            if let Some(open) = &mut model.open {
                open.search = text;
                open.stream.found = None;
                if let Some(output) = &mut open.output {
                    output.found = None;
                }
            }
            searching::next(model, false, cmds);
        }
        PromptKind::Options => match (model.settings.read_options)(&text) {
            Ok(parsed) => {
                model.overlays.pop();
                model.command.parsed = parsed;
                text.trim().clone_into(&mut model.command.options);
            }
            Err(problem) => model.complain(problem),
        },
        PromptKind::Palette => {
            model.overlays.pop();
            match choice {
                Some(Choice::Action(action)) => return Some(action),
                _ => model.complain(format!("no action is called {:?}", text.trim())),
            }
        }
        PromptKind::Past => {
            model.overlays.pop();
            match choice {
                Some(Choice::Past(past)) => model.command.replace(&past),
                _ => model.complain("no command in the history matches"),
            }
        }
        PromptKind::DrainReason => {
            model.overlays.pop();
            agents::drain(model, &text, cmds);
        }
        PromptKind::Code => take_code(model, &text, cmds),
        PromptKind::Label => {
            model.overlays.pop();
            let changes: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            if !changes.is_empty() {
                cmds.push(Cmd::Label(agents::recipients_by_name(model), changes));
            }
        }
    }
    None
}

/// Approves the shown pending key with its one-time code.
fn take_code(model: &mut Model, text: &str, cmds: &mut Vec<Cmd>) {
    match text.parse::<Code>() {
        Ok(code) => {
            if let Some(Overlay::Prompt(prompt)) = model.overlays.pop()
                && let Some((name, fingerprint, proposed)) = prompt.key
            {
                cmds.push(Cmd::Approve(name, KeyMark::Code(code), (fingerprint, proposed)));
                model.overlays.clear();
            }
        }
        Err(error) => model.complain(error.to_string()),
    }
}

fn take_target(model: &mut Model, text: &str) {
    if text.is_empty() {
        model.overlays.pop();
        return;
    }
    let target = match text.parse::<Target>() {
        Ok(target) => target,
        Err(error) => return model.complain(format!("{} (at character {})", error.problem, error.at + 1)),
    };
    let matched = model.fleet.evaluate(&target);
    if !matched.unknown.is_empty() {
        let names: Vec<&str> = matched.unknown.iter().map(crate::domain::name::AgentName::as_str).collect();
        return model.complain(format!("no agent is called {}", crate::domain::target::fold::fold(names)));
    }
    if matched.agents.is_empty() {
        return model.complain(format!("no agent matches {text}"));
    }
    model.overlays.pop();
    let now_ms = model.now.unix_ms;
    model.fleet.pick_only(matched.agents, Some(target), now_ms);
}
