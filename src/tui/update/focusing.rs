//! Moves the focus between the panes and the command line.

use super::super::model::{Focus, Model, Overlay};

/// Moves the focus to a pane.
pub(super) fn focus(model: &mut Model, focus: Focus) {
    model.focus = focus;
    match focus {
        Focus::Fleet => {
            model.room = Focus::Fleet;
            model.command.frozen = None;
        }
        Focus::Job => model.room = Focus::Job,
        Focus::Command => {}
    }
    model.overlays.retain(|overlay| matches!(overlay, Overlay::Question(_)));
}

/// Moves the focus to the command line. If no agents are picked, freezes the agent under the cursor as the
/// recipient.
pub(super) fn enter_command(model: &mut Model) {
    let from_job = model.focus == Focus::Job;
    if model.focus != Focus::Command && model.fleet.picks.agents.is_empty() {
        let details = match model.overlays.last() {
            Some(Overlay::Details { row, .. }) => Some(row.clone()),
            _ => None,
        };
        if let Some(row) = details {
            model.fleet.cursor = Some(row);
        }
        if model.command.frozen.is_none() || !from_job {
            model.command.frozen = Some(model.recipients_at_cursor());
        }
    }
    focus(model, Focus::Command);
}

/// Moves the focus from the command line back to the pane that was active before. Messages go, as with any Esc.
pub(super) fn leave_command(model: &mut Model) {
    model.toasts.clear();
    let to = if model.room == Focus::Job && model.open.is_some() { Focus::Job } else { Focus::Fleet };
    focus(model, to);
}

/// Moves the focus to the next or previous pane that exists.
pub(super) fn next_pane(model: &mut Model, forwards: bool) {
    let all = [Focus::Fleet, Focus::Job, Focus::Command];
    let at = all.iter().position(|pane| *pane == model.focus).unwrap_or(0);
    let may = |pane: Focus, model: &Model| match pane {
        Focus::Fleet => true,
        Focus::Job => model.open.is_some(),
        Focus::Command => !model.settings.read_only,
    };
    let next = (1..=3)
        .map(|step| all[if forwards { (at + step) % 3 } else { (at + 3 - step) % 3 }])
        .find(|pane| may(*pane, model));
    match next {
        Some(Focus::Command) => enter_command(model),
        Some(pane) => focus(model, pane),
        None => {}
    }
}
