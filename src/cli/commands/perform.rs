//! Performs a command, on a runtime of one thread where it needs one.

use super::{
    agent_start, agents, demo, doctor, job, master, masters, neighbours, operators, run, service, settings,
    simulate, tokens, tui,
};
use crate::{
    cli::{
        args::{Cli, Command, ToMaster, agent::AgentCommand, master::MasterSubcommand},
        exit::{self, Failure, Status},
        masters::resolve,
        output::say,
    },
    sys::{
        daemon::{self, Report},
        logging,
    },
    wire::client::ControlClient,
};

/// Runs the command of a command line.
///
/// # Errors
/// Returns the message for the user, and the exit status.
pub(crate) fn perform(cli: Cli) -> Result<Status, Failure> {
    match cli.command {
        Command::Tui(args) => tui::tui(&args),
        Command::Demo(args) => demo::demo(&args),
        Command::Master(master) => match master.command {
            None => master::start(&master.start),
            Some(MasterSubcommand::Start(args)) => master::start(&args),
            Some(MasterSubcommand::Stop(args)) => master::stop(&args),
            Some(MasterSubcommand::Salvage(args)) => master::salvage(&args),
            Some(MasterSubcommand::Status(args)) => master::status(&args),
            Some(MasterSubcommand::Token(verb)) => tokens::perform(&verb),
            Some(MasterSubcommand::Operator(verb)) => operators::perform(&verb),
            Some(MasterSubcommand::Add(args)) => masters::add(&args),
            Some(MasterSubcommand::List(args)) => masters::list(&args),
            Some(MasterSubcommand::Select(args)) => masters::select(&args),
            Some(MasterSubcommand::Show(args)) => masters::show(&args),
            Some(MasterSubcommand::Remove(args)) => masters::remove(&args),
        },
        Command::Login(args) => masters::login(&args),
        Command::Agent(agent) => match agent {
            AgentCommand::Start(args) => agent_start::start(&args),
            AgentCommand::Supervisor(args) => agent_start::supervisor(&args),
            AgentCommand::Simulate(args) => simulate::simulate(&args),
            AgentCommand::Stop(args) => agent_start::stop(&args),
            AgentCommand::List(args) => agents::list(&args),
            AgentCommand::Get(args) => agents::get(&args),
            AgentCommand::Run(args) => run::run(*args),
            AgentCommand::Shell(args) => run::shell(&args),
            AgentCommand::Label(args) => agents::label(&args),
            AgentCommand::Drain(args) => agents::drain(&args.of, Some(&args.reason)),
            AgentCommand::Resume(args) => agents::drain(&args, None),
            AgentCommand::Approve(args) => agents::approve(&args),
            AgentCommand::Reject(args) => agents::reject(&args),
            AgentCommand::Delete(args) => agents::delete(&args),
        },
        Command::List(args) => agents::list(&args),
        Command::Run(args) => run::run(*args),
        Command::Shell(args) => run::shell(&args),
        Command::Service(verb) => service::perform(&verb),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Config(verb) => settings::perform(&verb),
        Command::Completions(args) => neighbours::completions(&args),
        Command::Man(args) => neighbours::man(&args),
        Command::Inventory(args) => neighbours::inventory(&args),
        Command::Job(job) => job::perform(&job),
    }
}

/// Starts this program again as a daemon, with `input` as its standard input, and prints what the daemon
/// reports.
pub(super) fn start_daemon(input: &str) -> Result<Status, Failure> {
    match daemon::start(input)? {
        Report::Ready(text) => {
            say(&format!("{text}\n"))?;
            Ok(exit::OK)
        }
        Report::Failed(text) => Err(Failure::new(text)),
    }
}

/// Handles SIGHUP in a daemon: without a terminal it means that the log file was moved.
pub(super) fn reopen_log() {
    logging::reopen();
    tracing::info!("SIGHUP: the log was opened anew");
}

/// Runs a client's work on one thread: it starts faster, and one thread is enough for one stream.
pub(super) fn on_one_thread<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    // The end of the process frees everything faster than a shutdown of the runtime.
    std::mem::forget(runtime);
    result
}

/// Connects to the master that the arguments name.
pub(super) async fn connect(to: &ToMaster) -> Result<ControlClient, Failure> {
    Ok(ControlClient::connect(&resolve(to)?).await?)
}
