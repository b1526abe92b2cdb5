//! `demo`: a private master and five agents in a temporary directory, with the control center on a terminal, else a tour.
//!
//! All components are real (TLS, gRPC, supervisors, the durable log), and everything is removed at the end.

use std::{
    fs::{self, DirBuilder},
    io::IsTerminal as _,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use tokio::runtime::Builder;

use super::{agents::agents_table, tui};
use crate::{
    agent::{layout::Layout, supervisor::client},
    cli::{
        args::{Colour, DemoArgs, MasterChoice, ToMaster, tui::TuiArgs},
        exit::{self, Failure, Status},
        output::{Paint, Tone, say, stdout_is_terminal},
    },
    domain::{
        agent::{AgentState, AgentView},
        command::Command,
        control::{CreateToken, StartJob},
        ids::JobId,
        job::{JobOptions, Overflow},
        name::Label,
        target::{Target, selection::Selection},
        terms::Terms,
    },
    master::{
        core::{Enroll, OUTPUT_CAP},
        retention::Retention,
        server::{Config, Server},
    },
    sys::{
        clock::unix_ms,
        paths::Directories,
        process::own_program,
        random,
        runtime::daemon_runtime,
        shutdown::{EndSignals, Shutdown},
    },
    wire::{
        budget::Limits,
        client::{ControlClient, MasterAddress},
    },
};

/// Names and labels of the demo's agents.
const AGENTS: [(&str, &str); 5] = [
    ("web-1", "role=web,dc=ams"),
    ("web-2", "role=web,dc=ams"),
    ("web-3", "role=web,dc=fra"),
    ("db-1", "role=db,dc=ams"),
    ("db-2", "role=db,dc=fra"),
];
/// Prints similar output on all agents: each prints its own name.
const GREET: &str = r#"for i in 1 2 3; do echo "$SLOTH_AGENT says $i"; sleep 0.2; done"#;
/// Fails on one agent.
const CHECK: &str =
    r#"if [ "$SLOTH_AGENT" = db-2 ]; then echo "disk is 97 % full" >&2; exit 3; fi; echo "disk is fine""#;
/// Prints some lines in colour. One agent prints an additional line.
const INSTALL: &str = r#"for part in libc6 openssl bash; do printf 'Setting up \033[1m%s\033[0m ...\n' $part; done
if [ "$SLOTH_AGENT" = web-2 ]; then echo 'W: the mirror is old'; fi
printf '\033[32mdone\033[0m\n'"#;
/// Prints a different version on two agents.
const VERSION: &str =
    r#"case "$SLOTH_AGENT" in web-3|db-1) echo 5.15.0-91-generic;; *) echo 6.1.0-18-amd64;; esac"#;
/// Maximum time until all agents are active.
const ACTIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// The demo's files and processes. Dropping it ends the processes and removes the files.
struct Fleet {
    root: PathBuf,
    agents: Vec<Child>,
}

impl Fleet {
    fn new() -> Result<Self, Failure> {
        let root =
            std::env::temp_dir().join(format!("sloth-runner-demo-{}", random::hex(&random::bytes::<6>())));
        DirBuilder::new().mode(0o700).create(&root)?;
        Ok(Self { root, agents: Vec::new() })
    }

    fn master(&self) -> PathBuf {
        self.root.join("master")
    }

    fn agent(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    async fn start_agents(&mut self, port: u16, client: &ControlClient) -> Result<(), Failure> {
        for (name, labels) in AGENTS {
            let labels = labels.split(',').map(|label| label.parse::<Label>().map_err(Failure::new));
            let labels = labels.map(|label| label.map(|Label { key, value }| (key, value)));
            let terms = Terms {
                labels: labels.collect::<Result<_, Failure>>()?,
                names: Some(name.parse().map_err(Failure::new)?),
                ..Terms::default()
            };
            let token = client.create_token(CreateToken { ttl_ms: 60_000, uses: 1, terms }).await?;
            let child = own_program()
                .args(["agent", "start", "--name", name])
                .args(["--master", &format!("127.0.0.1:{port}"), "--log-level", "error"])
                .arg("--data-dir")
                .arg(self.agent(name))
                .env("SLOTH_RUNNER_TOKEN", token.token)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()?;
            self.agents.push(child);
        }
        Ok(())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // In parallel, since each call waits until the agent's tasks have ended.
        std::thread::scope(|scope| {
            for (name, _) in AGENTS {
                let layout = Layout::new(self.agent(name));
                scope.spawn(move || client::stop(&layout, 0, |_| {}));
            }
        });
        for child in &mut self.agents {
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.root);
    }
}

pub(super) fn demo(args: &DemoArgs) -> Result<Status, Failure> {
    let on_terminal = std::io::stdin().is_terminal() && stdout_is_terminal();
    let is_tour = args.tour || !on_terminal;
    let runtime = daemon_runtime(&mut Builder::new_multi_thread())?;
    runtime.block_on(async {
        let mut signals = EndSignals::new()?;
        let mut fleet = Fleet::new()?;
        let shutdown = Shutdown::default();
        let server = Server::set_up(Config {
            directories: Directories {
                data: fleet.master(),
                runtime: fleet.master(),
                log: fleet.master().join("log"),
            },
            host: Some("127.0.0.1".to_owned()),
            port: 0,
            enroll: Enroll::Approve,
            output_cap: OUTPUT_CAP,
            disk_cap: 100,
            metrics: None,
            limits: Limits::OPERATOR,
            retention: Retention::default(),
            restored: false,
        })
        .map_err(Failure::new)?;
        let (port, socket) = (server.address().port(), server.socket_path());
        let serving = tokio::spawn(server.run(shutdown.clone()));
        let shown = async {
            if is_tour {
                return tour(&mut fleet, port, &socket).await;
            }
            say("starting a private master and five agents …\n")?;
            let client = join(&mut fleet, port, &socket).await?.0;
            run_sample_jobs(&client).await?;
            let to = ToMaster { master: Some(MasterChoice::Socket(socket.clone())) };
            let args =
                TuiArgs { to, job: Some(0), data_dir: Some(fleet.root.join("client")), ..TuiArgs::default() };
            tui::open(&args).await
        };
        // The control center handles signals itself, because it has to restore the terminal.
        let result = tokio::select! {
            result = shown => result,
            _ = signals.next(), if is_tour => Ok(exit::INTERRUPTED),
        };
        tokio::task::spawn_blocking(move || drop(fleet)).await.map_err(Failure::new)?;
        shutdown.stop.cancel();
        let _ = serving.await;
        result
    })
}

async fn tour(fleet: &mut Fleet, port: u16, socket: &Path) -> Result<Status, Failure> {
    let paint = Paint::new(Colour::Auto, stdout_is_terminal());
    let chapter = |text: &str| say(&format!("\n{}\n", paint.paint(Tone::Dim, &format!("── {text}"))));
    say("sloth-runner demo: a private master and five agents on this machine, removed at the end\n")?;
    let (_, agents) = join(fleet, port, socket).await?;
    chapter("sloth-runner agent list")?;
    say(&agents_table(&agents, paint))?;

    let master = format!("unix:{}", socket.display());
    chapter(&format!("sloth-runner agent run @all '{GREET}'"))?;
    run(&master, &["@all", GREET]).await?;

    chapter("sloth-runner agent run 'web-*,db-*' CHECK     (it fails on one of them)")?;
    let status = run(&master, &["web-*,db-*", CHECK]).await?;
    say(&format!("exit status {status}: the largest of the five\n"))?;

    chapter("sloth-runner agent run -b @all VERSION     (who differs?)")?;
    run(&master, &["-b", "@all", VERSION]).await?;

    chapter("sloth-runner job list")?;
    program(&master, &["job", "list"]).await?;
    chapter("sloth-runner job show last")?;
    program(&master, &["job", "show", "last"]).await?;
    say(
        "\nOn your machines: `sloth-runner master --daemon`, then `sloth-runner master token create` prints the command for each machine.\n",
    )?;
    Ok(exit::OK)
}

/// Starts the agents, and waits until they are active.
async fn join(
    fleet: &mut Fleet,
    port: u16,
    socket: &Path,
) -> Result<(ControlClient, Vec<AgentView>), Failure> {
    let address = MasterAddress::Socket(socket.to_owned());
    let client = ControlClient::connect(&address).await?;
    fleet.start_agents(port, &client).await?;
    let agents = wait_active(&client).await?;
    Ok((client, agents))
}

/// Runs sample jobs: two with similar output, one that fails on one agent, and one that differs on two
/// agents.
async fn run_sample_jobs(client: &ControlClient) -> Result<(), Failure> {
    for command in [GREET, CHECK, INSTALL, VERSION] {
        let id = JobId::from_parts(unix_ms(), u128::from_le_bytes(random::bytes()));
        let command = Command::new(vec![command.as_bytes().to_vec()]).map_err(Failure::new)?;
        let target: Target = "@all".parse().map_err(Failure::new)?;
        let request = StartJob {
            id,
            selection: Selection::from(target),
            command,
            options: JobOptions { overflow: Overflow::Gap, ..JobOptions::default() },
            shown: Vec::new(),
            follow: true,
        };
        let mut events = client.start_job(request).await?;
        // Each job ends before the next one starts, so that the job numbers show their order.
        while events.next().await?.is_some() {}
    }
    Ok(())
}

async fn wait_active(client: &ControlClient) -> Result<Vec<AgentView>, Failure> {
    let deadline = Instant::now() + ACTIVE_TIMEOUT;
    loop {
        let agents = client.agents(None).await?;
        let active = agents.iter().filter(|agent| agent.state == AgentState::Active);
        if active.count() == AGENTS.len() {
            return Ok(agents);
        }
        if Instant::now() > deadline {
            return Err(Failure::new("the demo's agents did not become active within 20 s"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs this program as a user would, on the same terminal.
async fn program(master: &str, words: &[&str]) -> Result<i32, Failure> {
    let mut command = own_program();
    command.args(words).env("SLOTH_RUNNER_MASTER", master).stdin(Stdio::null());
    let status = tokio::task::spawn_blocking(move || command.status()).await;
    let status = status.map_err(Failure::new)??;
    Ok(status.code().unwrap_or(-1))
}

async fn run(master: &str, words: &[&str]) -> Result<i32, Failure> {
    program(master, &[&["agent", "run"], words].concat()).await
}
