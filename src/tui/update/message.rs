//! Updates the model with a message, which goes to its handler.

use super::{following, keys, looking, moving, news};
use crate::tui::{
    model::{Model, Now},
    msg::{Cmd, Msg},
};

/// Applies a message at a moment. Returns the commands that the runtime performs.
#[must_use]
pub fn update(model: &mut Model, msg: Msg, now: Now) -> Vec<Cmd> {
    model.now = now;
    let mut cmds = Vec::new();
    model.toasts.retain(|toast| toast.until > now.monotonic);
    match msg {
        Msg::Key(key) => keys::press(model, key, &mut cmds),
        Msg::Quiet => keys::quiet(model, &mut cmds),
        Msg::Paste(text) => keys::paste(model, &text, &mut cmds),
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
        Msg::Suspended => cmds.push(Cmd::Suspend),
        Msg::Continued => cmds.push(Cmd::Retake),
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
    looking::compare(model);
    cmds
}
