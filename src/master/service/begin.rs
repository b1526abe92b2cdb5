//! Beginning a run, or one that is like another, and following it where that is wanted.

use std::sync::Arc;

use tonic::{Response, Status};

use super::{
    Master,
    control::{invalid, reference, selection},
    follow::Follow,
    outbox::{Answers, Outbox},
    refusal,
};
use crate::{
    domain::{
        ids::{RunId, RunReference},
        run::{Overflow, RunOptions, Task},
        target::{Target, fold::fold},
    },
    master::core::messages::{Input, Reply, RunAsked},
    wire::{
        InvalidMessage,
        bounds::per_task,
        budget::Budget,
        proto::{self, run_event::Kind},
        serve::Connected,
    },
};

impl Master {
    /// Reads a wish to start a run.
    pub(super) async fn run_asked(
        &self,
        caller: &Connected,
        request: proto::StartRunRequest,
        operator: String,
    ) -> Result<RunAsked, Status> {
        let command = request.command.ok_or_else(|| InvalidMessage::missing("the command"))?;
        let options = RunOptions {
            by_admin: caller.caller.is_admin(),
            ..RunOptions::try_from(request.options.unwrap_or_default())?
        };
        let shown = per_task(request.shown, "agents")?.into_iter();
        Ok(RunAsked {
            id: RunId::from_bytes(&request.run_id).map_err(invalid)?,
            operator,
            command: command.try_into()?,
            choice: self.choose(caller, selection(request.selection)?, options.now).await?,
            options,
            shown: shown.map(|shown| (shown.name, shown.fingerprint)).collect(),
        })
    }

    /// Starts a run, and follows it where that is wanted.
    pub(super) async fn begin(
        &self,
        asked: RunAsked,
        follows: bool,
        budget: Arc<Budget>,
    ) -> Result<Response<Answers<proto::RunEvent>>, Status> {
        let (id, again) = (asked.id, asked.clone());
        self.logs.open_ahead(id);
        // Asked for before the run begins, so that nothing of it is missed.
        let (journal, reply) = tokio::join!(
            self.handle.follow(id),
            self.handle.ask(move |reply| Input::StartRun(Box::new(asked), reply))
        );
        let journal = journal?;
        let one = |kind: Kind| Ok(Response::new(Outbox::only(proto::RunEvent { kind: Some(kind) })));
        match reply? {
            Reply::Live(run) if follows => {
                let follow = Follow {
                    live: Some(journal),
                    follow: true,
                    // Only a client of the operator who started the run may slow it down.
                    attached: run.operator == again.operator,
                    ..Follow::new(*run, self.shutdown.stop.clone())
                };
                Ok(self.follow(follow, budget))
            }
            Reply::Live(run) => one(Kind::Run((*run).into())),
            Reply::NotLive => {
                let run = self.stored_run(RunReference::Id(id)).await?;
                if !again.is_for(&run) {
                    return one(Kind::Refused(proto::StartRefused { reason: again.foreign_id() }));
                }
                let stop = self.shutdown.stop.clone();
                let follow = Follow { follow: follows, without_output: !follows, ..Follow::new(run, stop) };
                Ok(self.follow(follow, budget))
            }
            Reply::TargetChanged { gone, more } => {
                let gone = gone.into_iter().map(Into::into).collect();
                one(Kind::TargetChanged(proto::TargetChanged { gone, more }))
            }
            Reply::Refused(reason) | Reply::NotFound(reason) => {
                one(Kind::Refused(proto::StartRefused { reason }))
            }
            other => Err(refusal(other)),
        }
    }

    /// Runs what another run ran, on its agents or on those where it failed.
    pub(super) async fn begin_again(
        &self,
        caller: &Connected,
        request: proto::RerunRunRequest,
        by: String,
    ) -> Result<Response<Answers<proto::RunEvent>>, Status> {
        let of = reference(request.run)?;
        let turn = caller.budget.turn().await;
        let Some((run, run_options)) = self.run_to_repeat(of).await? else {
            return Err(self.no_such_run(of).await?);
        };
        drop(turn);
        let number = run.number;
        if !run_options.forgotten.is_empty() {
            let names: Vec<_> =
                run_options.forgotten.iter().map(|name| String::from_utf8_lossy(&name.0)).collect();
            return Err(Status::failed_precondition(format!(
                "run {number} was given {}, and values of variables are not kept once its commands have started: start it with \
                 `sloth-runner agent run --env …`",
                names.join(", ")
            )));
        }
        let wanted = |task: &&Task| !(request.failed && task.has_succeeded());
        if request.failed && run.tasks.iter().any(|task| task.state.outcome().is_none()) {
            let text = format!("run {number} is not over, so it is not known where it failed");
            return Err(Status::failed_precondition(text));
        }
        // Who was asked for by name did not take part then, and is asked for again.
        let tasks = run.tasks.iter().filter(wanted).map(|task| task.agent.as_str());
        let names: Vec<&str> = tasks.chain(run.missed()).collect();
        if names.is_empty() {
            return Err(Status::failed_precondition(format!("run {number} exited 0 everywhere")));
        }
        let target = if request.failed || !run.plain_name { fold(names) } else { run.target.clone().into() };
        let overflow = if request.follow { Overflow::Block } else { Overflow::Gap };
        let asked = RunAsked {
            id: RunId::from_bytes(&request.run_id).map_err(invalid)?,
            operator: by,
            choice: self
                .choose(caller, target.parse::<Target>().map_err(invalid)?.into(), run_options.now)
                .await?,
            command: run.command,
            options: RunOptions {
                overflow,
                taken_back: false,
                by_admin: caller.caller.is_admin(),
                ..run_options
            },
            shown: Vec::new(),
        };
        self.begin(asked, request.follow, Arc::clone(&caller.budget)).await
    }
}
