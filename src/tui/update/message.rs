//! Updates the model with a message: keys go to the focused pane, everything else to its handler.

use super::{act, answers, editing, following, moving, news, prompts, questions};
use crate::tui::{
    keymap::{self, Context, Key},
    model::{Model, Now, Overlay},
    msg::{Cmd, Msg},
};

/// Applies a message at a moment. Returns the commands that the runtime performs.
#[must_use]
pub fn update(model: &mut Model, msg: Msg, now: Now) -> Vec<Cmd> {
    model.now = now;
    let mut cmds = Vec::new();
    model.toasts.retain(|toast| toast.until > now.monotonic);
    match msg {
        Msg::Key(key, followed) => on_key(model, key, followed, &mut cmds),
        Msg::Paste(text) => editing::paste(model, &text),
        Msg::Click(x, y) => moving::click(model, x, y),
        Msg::Wheel(x, y, up) => moving::wheel(model, x, y, up, &mut cmds),
        Msg::Resized | Msg::Tick => {}
        Msg::Drawn(layout) => {
            model.fleet.top = layout.fleet_top;
            if let Some(open) = &mut model.open {
                open.rows.top = layout.rows_top;
                open.first_pane = layout.first_pane;
            }
            model.layout = layout;
        }
        Msg::HangUp => {
            if !model.command.is_blank() {
                cmds.push(Cmd::KeepDraft(model.command.value()));
            }
            model.quits = Some(Vec::new());
            cmds.push(Cmd::Quit);
        }
        other => news::take(model, other, &mut cmds),
    }
    if model.fleet.is_stale {
        model.fleet.arrange();
    }
    following::reconcile(model, &mut cmds);
    cmds
}

fn on_key(model: &mut Model, key: Key, followed: bool, cmds: &mut Vec<Cmd>) {
    if let Some(Overlay::Question(_)) = model.overlays.last() {
        if let Some(agreed) = questions::key(model, key) {
            answers::perform(model, agreed, cmds);
        }
        return;
    }
    let context = model.context();
    if context == Context::Command && model.command.has_prefix {
        model.command.has_prefix = false;
        if key.ctrl && key.code == crossterm::event::KeyCode::Char('e') {
            cmds.push(Cmd::Edit(model.command.value()));
        }
        return;
    }
    match keymap::find(context, key) {
        Some(binding) => {
            // Enter with more bytes behind it is part of pasted text.
            let action = match binding.action {
                keymap::Action::Execute if followed => keymap::Action::NewLine,
                action => action,
            };
            act::try_to(model, action, cmds);
        }
        None => match context {
            Context::Command => editing::command_key(model, key),
            Context::Prompt => prompts::key(model, key),
            _ => {}
        },
    }
}
