//! Performs what was asked about, once the operator has agreed; and ends the program.

use super::{
    super::{
        model::{Asked, Model},
        msg::Cmd,
    },
    loading, picking, starting,
};
use crate::domain::code::KeyMark;

/// Performs what was agreed to.
pub(super) fn perform(model: &mut Model, asked: Asked, cmds: &mut Vec<Cmd>) {
    match asked {
        Asked::Run => starting::send(model, cmds),
        Asked::Cancel(job, tasks) => {
            model.say("cancelling …");
            cmds.push(Cmd::Cancel(job, tasks));
        }
        Asked::Promote(job) => cmds.push(Cmd::Promote(job)),
        Asked::Stop(job) => cmds.push(Cmd::Stop(job)),
        Asked::Pick(picks) => picking::set(model, picks),
        Asked::Shell(agent) => cmds.push(Cmd::Shell(agent)),
        Asked::Save(job, number, agents) => cmds.push(Cmd::Save(job, number, agents)),
        Asked::Pager(job, agent) => cmds.push(Cmd::Pager(job, agent, model.look)),
        Asked::Load(found) => loading::load(model, *found),
        Asked::Quit => quit(model, cmds),
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

/// Returns the numbers of the active jobs that this program started.
pub(super) fn own_active(model: &Model) -> Vec<u64> {
    let own = model.active_jobs().filter(|job| model.own_jobs.contains(&job.id));
    own.map(|job| job.number).collect()
}

/// Ends the program. It prints how to return to the jobs that continue.
pub(super) fn quit(model: &mut Model, cmds: &mut Vec<Cmd>) {
    let line = |number: u64| format!("job {number} continues: sloth-runner job attach {number}");
    model.quits = Some(own_active(model).into_iter().map(line).collect());
    if !model.command.is_blank() {
        cmds.push(Cmd::KeepDraft(model.command.value()));
    }
    cmds.push(Cmd::Quit);
}
