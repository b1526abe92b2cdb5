//! `doctor`: checks the installation on this machine, and says how to fix problems.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::pki_types::CertificateDer;

use super::on_one_thread;
use crate::{
    agent::layout::Layout,
    cli::{
        args::{Colour, Format, doctor::DoctorArgs},
        config::Settings,
        exit::{self, Failure, Status},
        json::{Document, FindingList, FindingObject},
        masters::resolve,
        output::{Paint, Tone, print_json_ignoring_closed, say, stdout_is_terminal},
        units,
    },
    domain::{
        agent::{AgentState, LinkKind},
        fingerprint::Fingerprint,
        network::HostPort,
        sign::Sign,
        text::strip_control,
    },
    master::store,
    sys::{
        file::volume_used_percent,
        lock,
        paths::{directories, read_optional},
        systemd,
    },
    trust::{
        tls::{self, ALPN_H2},
        verify::Trust,
    },
    wire::{
        client::{ControlClient, MasterAddress},
        connect::dial,
    },
};

/// Usage of a volume, in percent, from which on it is reported, and from which on output is held back.
const VOLUME_NOTE_AND_ERROR_PERCENT: (u8, u8) = (80, 90);
/// The earliest time that a correct clock can show, in Unix seconds: 2025-01-01.
const EARLIEST_VALID_TIME: u64 = 1_735_689_600;
/// Limit of open files below which a daemon with many connections may fail.
const MIN_OPEN_FILES: u64 = 4_096;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    Well,
    Note,
    Bad,
}

/// The result of one check.
#[derive(Debug)]
struct Finding {
    grade: Severity,
    what: String,
    /// How to fix it; empty if there is nothing to fix.
    remedy: String,
}

#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn well(&mut self, what: impl Into<String>) {
        self.0.push(Finding { grade: Severity::Well, what: what.into(), remedy: String::new() });
    }

    fn note(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Finding { grade: Severity::Note, what: what.into(), remedy: remedy.into() });
    }

    fn bad(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Finding { grade: Severity::Bad, what: what.into(), remedy: remedy.into() });
    }
}

pub(super) fn doctor(args: &DoctorArgs) -> Result<Status, Failure> {
    let mut findings = Findings::default();
    machine(&mut findings);
    let master = directories(None, "master").map_err(Failure::new)?;
    let agents = master.data.with_file_name("agent");
    if master.data.is_dir() {
        check_private_directory(&mut findings, "the master's directory", &master.data);
        private_file(&mut findings, "the CA's key", &master.data.join("identity/ca.key"));
        volume(&mut findings, "the master's directory", &master.data);
        database(&mut findings, &master.data);
    }
    let names = fs::read_dir(&agents).into_iter().flatten().flatten();
    for directory in names.map(|entry| entry.path()).filter(|path| path.is_dir()) {
        agent(&mut findings, &directory, &master.data);
    }
    services(&mut findings);
    let address = resolve(&args.to)?;
    on_one_thread(async {
        fleet(&mut findings, &address, master.data.is_dir()).await;
        Ok(())
    })?;
    let is_bad = findings.0.iter().any(|finding| finding.grade == Severity::Bad);
    print(&findings, args.output)?;
    Ok(if is_bad { exit::FAILED } else { exit::OK })
}

fn print(findings: &Findings, output: Format) -> io::Result<()> {
    if output != Format::Text {
        let findings = findings.0.iter().map(|finding| {
            let grade = match finding.grade {
                Severity::Well => "well",
                Severity::Note => "note",
                Severity::Bad => "bad",
            };
            FindingObject::new(grade, &finding.what, &finding.remedy)
        });
        return print_json_ignoring_closed(
            output,
            &Document::new(FindingList { findings: findings.collect() }),
        );
    }
    let paint = Paint::new(Colour::Auto, stdout_is_terminal());
    for finding in &findings.0 {
        let (glyph, tone) = match finding.grade {
            Severity::Well => (Sign::SUCCESS.glyph, Tone::Good),
            Severity::Note => ('!', Tone::Waiting),
            Severity::Bad => (Sign::FAILURE.glyph, Tone::Bad),
        };
        // Some of these texts come from agents, which are not trusted.
        say(&format!("{} {}\n", paint.paint(tone, &glyph.to_string()), strip_control(&finding.what)))?;
        if !finding.remedy.is_empty() {
            say(&format!("    {}\n", strip_control(&finding.remedy)))?;
        }
    }
    Ok(())
}

/// Checks the master's database. A directory without one belongs to a master that was never started.
fn database(findings: &mut Findings, directory: &Path) {
    if !store::salvage::is_there(directory) {
        return;
    }
    let remedy = "stop the master, then run `sloth-runner master salvage` to create a new database from the readable parts";
    match store::salvage::check(directory) {
        Ok(faults) if faults.is_empty() => findings.well("the master's database is sound"),
        Ok(faults) => {
            findings.bad(format!("the master's database is damaged: {}", faults.join("; ")), remedy);
        }
        Err(error) => findings.bad(format!("the master's database cannot be checked: {error}"), remedy),
    }
}

/// Checks the clock and the limit of open files.
fn machine(findings: &mut Findings) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if now < EARLIEST_VALID_TIME {
        findings.bad(
            "the clock is years behind",
            "set it, or enable NTP (timedatectl set-ntp true); certificates do not depend on it, but displayed times are wrong",
        );
    } else if systemd::is_here() && fs::metadata("/run/systemd/timesync/synchronized").is_err() {
        findings.note(
            "it is not known whether NTP synchronizes the clock",
            "timedatectl shows more; certificates do not depend on it, times in lists do",
        );
    } else {
        findings.well("the clock is right");
    }
    if let Ok((_, most)) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
        && most < MIN_OPEN_FILES
    {
        findings.note(
            format!("a process can open only {most} files"),
            "raise LimitNOFILE= or ulimit -n for a master of many agents",
        );
    }
}

/// Checks that a directory is accessible only to its owner.
fn check_private_directory(findings: &mut Findings, what: &str, path: &Path) {
    let Ok(metadata) = fs::metadata(path) else {
        let shown = path.display();
        return findings.bad(format!("{what} {shown} cannot be read"), "run this as its owner, or as root");
    };
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return findings.bad(
            format!("{what} {} is open to others ({mode:o})", path.display()),
            format!("chmod 700 {}", path.display()),
        );
    }
    findings.well(format!("{what} {} is private", path.display()));
}

fn private_file(findings: &mut Findings, what: &str, path: &Path) {
    match fs::metadata(path) {
        Ok(metadata) if metadata.mode() & 0o077 != 0 => findings.bad(
            format!("{what} {} can be read by others ({:o})", path.display(), metadata.mode() & 0o777),
            format!("chmod 600 {}; other users may already have copied it", path.display()),
        ),
        Ok(_) => findings.well(format!("{what} can be read only by its owner; certificates do not expire")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => findings.bad(format!("{what}: {error}"), "run this as its owner, or as root"),
    }
}

fn volume(findings: &mut Findings, what: &str, path: &Path) {
    match volume_used_percent(path) {
        Ok(used) if used >= VOLUME_NOTE_AND_ERROR_PERCENT.1 => findings.bad(
            format!("the volume of {what} is {used} % full"),
            "free some space: output is held back on the agents, and no new job starts",
        ),
        Ok(used) if used >= VOLUME_NOTE_AND_ERROR_PERCENT.0 => findings.note(
            format!("the volume of {what} is {used} % full"),
            "at 90 % output is held back and commands wait; a master starts no job above its --disk-cap",
        ),
        Ok(used) => findings.well(format!("the volume of {what} is {used} % full")),
        Err(error) => findings.note(format!("the volume of {what}: {error}"), ""),
    }
}

/// Returns the value of a flag on the command line of a running process.
fn flag_of(pid: i32, flag: &str) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<String> =
        line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let inline = words.iter().find_map(|word| word.strip_prefix(&format!("{flag}=")).map(str::to_owned));
    inline.or_else(|| words.windows(2).find(|pair| pair[0] == flag).map(|pair| pair[1].clone()))
}

/// Checks an agent of this machine: its directory, identity, process and connection to the master.
fn agent(findings: &mut Findings, directory: &Path, master: &Path) {
    let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    check_private_directory(findings, &format!("agent {name}'s directory"), directory);
    private_file(findings, &format!("agent {name}'s key"), &directory.join("identity/agent.key"));
    volume(findings, &format!("agent {name}'s directory"), directory);
    let read = |file: &str| read_optional(&directory.join("identity").join(file)).ok().flatten();
    let trust =
        read("trust").map(|text| String::from_utf8_lossy(&text).trim().to_owned()).unwrap_or_default();
    if trust == "first use" {
        findings.note(
            format!("agent {name} trusts the first master that answered"),
            "compare `master status` there with the CA's fingerprint, and start it once with --ca-fingerprint",
        );
    }
    if read("agent.der").is_none() {
        findings.bad(
            format!("agent {name} is not enrolled yet"),
            format!("on the master: sloth-runner agent list, then sloth-runner agent approve {name}"),
        );
    }
    let layout = Layout::new(directory);
    let holder = |path: PathBuf| lock::holder(&path).ok().flatten();
    if holder(layout.supervisor_lock()).is_none() {
        findings.note(
            format!("agent {name} has no supervisor: no commands run on it"),
            "starting the agent starts one",
        );
    }
    let Some(pid) = holder(directory.join("agent.pid")) else {
        return findings.bad(
            format!("agent {name} does not run"),
            format!("systemctl start sloth-runner-agent, or sloth-runner agent start --name {name} --daemon"),
        );
    };
    findings.well(format!("agent {name} runs (pid {pid})"));
    let owner = |path: &Path| fs::metadata(path).map(|metadata| metadata.uid()).ok();
    let user = owner(directory);
    let is_masters =
        read("ca.der").is_some_and(|ca| fs::read(master.join("identity/ca.der")).is_ok_and(|own| own == ca));
    if is_masters && (user == Some(0) || user == owner(master)) {
        findings.note(
            format!("agent {name} is on its master's machine: a command there can take the master's keys"),
            "it runs commands of administrators only, unless it is started with --trust-operators; a master is safest on its own machine",
        );
    }
    let configured = || Settings::load().ok().and_then(|settings| settings.agents_master());
    if let Some(master) = flag_of(pid, "--master").or_else(configured) {
        let pinned = read("ca.der").map(CertificateDer::from);
        reach(findings, &name, &master, pinned);
    }
}

/// Checks that an agent's master answers, with the CA that the agent trusts.
fn reach(findings: &mut Findings, name: &str, master: &str, pinned: Option<CertificateDer<'static>>) {
    let Ok(at) = HostPort::parse(master, Some(50053)) else {
        return findings.bad(format!("agent {name} has no usable --master ({master})"), "write HOST:PORT");
    };
    let shown = at.to_string();
    let fingerprint = pinned.as_ref().map(|ca| Fingerprint::of(ca).short());
    let trust = pinned.map_or(Trust::FirstUse, Trust::Pinned);
    let dialled = on_one_thread(async {
        let config = tls::client(None, trust, ALPN_H2).map_err(Failure::new)?;
        dial(&at.host, at.port, Arc::new(config), tls::server_name("master")).await.map_err(Failure::new)
    });
    match dialled {
        Ok(_) => findings.well(format!(
            "{shown} answers agent {name}, with the CA {}…",
            fingerprint.unwrap_or_else(|| "that it would pin now".to_owned())
        )),
        Err(failure) => findings.bad(
            format!("agent {name}: {}", failure.message),
            format!("does the master listen on {shown}, and does a firewall let this machine through?"),
        ),
    }
}

/// Checks for units that failed, or whose restart would kill running commands.
fn services(findings: &mut Findings) {
    if !systemd::is_here() {
        return;
    }
    // The units of the administrator, and those of packages.
    let places = ["/etc/systemd/system", "/usr/lib/systemd/system"];
    let units = places.into_iter().filter_map(|place| fs::read_dir(place).ok()).flatten().flatten();
    let names = units.filter_map(|entry| entry.file_name().into_string().ok());
    let ours = names.filter(|name| name.starts_with("sloth-runner-") && name.ends_with(".service"));
    for unit in ours.collect::<BTreeSet<String>>() {
        let property = |name: &str| systemd::property(&unit, name).unwrap_or_default();
        match property("ActiveState").as_str() {
            // A package installs units that may stay disabled.
            "inactive" if property("UnitFileState") == "disabled" => continue,
            "active" => findings.well(format!("{unit} is active: {}", property("StatusText"))),
            state => findings.bad(
                format!("{unit} is {state} ({})", property("Result")),
                format!("journalctl -u {unit} shows why; systemctl start {unit} starts it"),
            ),
        }
        let is_agents = unit.starts_with("sloth-runner-agent")
            && !property("Environment").contains(units::CONFINED_VARIABLE);
        if is_agents && property("KillMode") != "process" {
            findings.bad(
                format!("{unit} has KillMode={}: a restart kills running commands", property("KillMode")),
                "sloth-runner service install agent writes a unit with KillMode=process",
            );
        }
        if is_agents && property("KillMode") == "process" && property("PrivateTmp") == "yes" {
            findings.bad(
                format!("{unit} has PrivateTmp=yes: after a restart mktemp fails in every command"),
                "sloth-runner service install agent writes a unit without PrivateTmp",
            );
        }
    }
}

/// Checks the selected master and its connections to agents.
async fn fleet(findings: &mut Findings, address: &MasterAddress, is_expected: bool) {
    let client = match ControlClient::connect(address).await {
        Ok(client) => client,
        Err(error) if matches!(address, MasterAddress::Local) && !is_expected => {
            return findings.note(error.to_string(), "");
        }
        Err(error) => {
            return findings.bad(error.to_string(), "sloth-runner master status; its log says more");
        }
    };
    let status = match client.status().await {
        Ok(status) => status,
        Err(error) => return findings.bad(error.to_string(), ""),
    };
    findings.well(format!("the master {} answers, and listens on {}", status.cluster, status.address));
    if let Some(reason) = status.refusing_jobs {
        let fix = "fix this, and the master accepts jobs again";
        findings.bad(format!("it accepts no jobs: {reason}"), fix);
    }
    if let Some(held) = status.holding_back {
        findings.bad(held, "fix this, and the tasks continue");
    }
    if let Some(ahead) = status.restore_warning {
        findings.bad(format!("it starts nothing on some agents: {ahead}"), "");
    }
    if status.enroll_any {
        findings.bad(
            "--enroll any: every agent that reaches its port is enrolled",
            "start the master without it; agents join by token or approval",
        );
    }
    if status.pending > 0 {
        findings
            .note(format!("{} keys wait for approval", status.pending), "sloth-runner agent list shows them");
    }
    let Ok(agents) = client.agents(None).await else { return };
    let mut direct = 0;
    for agent in &agents {
        direct += usize::from(agent.link == Some(LinkKind::Direct));
        if let (Some(LinkKind::Tunnel), Some(address)) = (agent.link, &agent.direct_address) {
            findings.note(
                format!("{}: {}", agent.name, agent.link_reason),
                format!(
                    "check the forward to {address} (incus config device show NAME), or start the agent without --bind-address and --report-address"
                ),
            );
        }
        if matches!(agent.state, AgentState::Offline | AgentState::Late) {
            findings.note(
                format!("{} is {}: {}", agent.name, agent.state.word(), agent.hint),
                "run doctor on its machine",
            );
        }
    }
    findings.well(format!(
        "{} of {} agents are connected, {direct} by a direct link",
        status.connected, status.agents
    ));
}
