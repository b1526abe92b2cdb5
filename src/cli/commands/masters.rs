//! `login`, and `master add|list|select|show|remove`: the stored masters of this user.

use std::io::{self, BufRead as _, IsTerminal as _};

use super::on_one_thread;
use crate::{
    cli::{
        args::{
            Colour, Format,
            masters::{
                LoginArgs, MasterAddArgs, MasterListArgs, MasterRemoveArgs, MasterSelectArgs, MasterShowArgs,
            },
        },
        exit::{self, Failure, Status},
        json::{Document, MasterList},
        masters::{KnownMaster, Masters},
        output::{Cell, Paint, Tone, note, print_json_ignoring_closed, say, stdout_is_terminal, table},
    },
    domain::network::HostPort,
    sys::paths::known_master_sockets,
    trust::key::Key,
    wire::login::{LoginString, log_in},
};

/// Maximum length of a login string, in bytes.
const MAX_LOGIN_BYTES: usize = 1_024;

fn login_string(args: &LoginArgs) -> Result<LoginString, Failure> {
    let text = if let Some(text) = &args.login {
        text.clone()
    } else {
        if io::stdin().is_terminal() {
            note("The login string, as `master operator add` printed it:");
        }
        let mut line = String::new();
        let mut input = io::Read::take(io::stdin().lock(), MAX_LOGIN_BYTES as u64);
        input.read_line(&mut line)?;
        line
    };
    let mut login: LoginString = text.parse().map_err(Failure::usage)?;
    if let Some(address) = &args.address {
        HostPort { host: login.host, port: login.port } =
            HostPort::parse(address, Some(50053)).map_err(Failure::usage)?;
    }
    Ok(login)
}

pub(super) fn login(args: &LoginArgs) -> Result<Status, Failure> {
    let login = login_string(args)?;
    let masters = Masters::open()?;
    if let Some(name) = &args.name {
        masters.check_login(name, login.token.ca)?;
    }
    let key = Key::generate().map_err(Failure::new)?;
    let logged_in = on_one_thread(async { log_in(&login, &key).await.map_err(Failure::new) })?;
    let name = args.name.clone();
    let name = name.unwrap_or_else(|| masters.free_name(&logged_in.hostname, &login.host, login.token.ca));
    let address = HostPort::new(&login.host, login.port).to_string();
    let known = masters.store_login(&name, &address, &key, &logged_in)?;
    let is_first = masters.selected()?.is_none();
    if is_first {
        masters.select(Some(&name))?;
    }
    let how = if is_first {
        "it is now the default master for commands".to_owned()
    } else {
        format!("`sloth-runner master select {name}` makes it the default")
    };
    say(&format!("logged in to {name} ({address}) as {}, {}; {how}\n", known.operator, known.role))?;
    Ok(exit::OK)
}

pub(super) fn add(args: &MasterAddArgs) -> Result<Status, Failure> {
    if !args.address.starts_with("unix:/") {
        return Err(Failure::usage(format!(
            "{:?}: only a socket, unix:/PATH, can be added here. On the machine of another master, `master operator add NAME --role ROLE` prints a login string; use it with `sloth-runner login --name {} LOGIN`",
            args.address, args.name
        )));
    }
    let known = KnownMaster {
        address: args.address.clone(),
        operator: String::new(),
        role: String::new(),
        ca_fingerprint: String::new(),
        key_fingerprint: String::new(),
    };
    Masters::open()?.add(&args.name, &known)?;
    say(&format!(
        "{} is {}; `sloth-runner master select {}` makes it the default\n",
        args.name, args.address, args.name
    ))?;
    Ok(exit::OK)
}

pub(super) fn list(args: &MasterListArgs) -> Result<Status, Failure> {
    let masters = Masters::open()?;
    let (all, selected) = (masters.all()?, masters.selected()?);
    if args.output != Format::Text {
        let all = all.iter().map(|(name, known)| (name.as_str(), known));
        print_json_ignoring_closed(args.output, &Document::new(MasterList::new(all, selected.as_deref())))?;
        return Ok(exit::OK);
    }
    let mark = |is_selected: bool| if is_selected { "*" } else { "" };
    let is_here = known_master_sockets().iter().any(|path| path.exists());
    let here = if is_here { "this machine" } else { "this machine (none runs)" };
    let mut rows = vec![vec![
        Cell::toned(mark(selected.is_none()), Tone::Good),
        Cell::from("local"),
        Cell::from(here),
        Cell::from("-"),
        Cell::from("-"),
    ]];
    rows.extend(all.iter().map(|(name, known)| {
        let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        vec![
            Cell::toned(mark(selected.as_deref() == Some(name)), Tone::Good),
            Cell::from(name.as_str()),
            Cell::from(known.address.as_str()),
            Cell::from(or_dash(&known.operator)),
            Cell::from(or_dash(&known.role)),
        ]
    }));
    let paint = Paint::new(Colour::Auto, stdout_is_terminal());
    say(&table(&["", "NAME", "ADDRESS", "OPERATOR", "ROLE"], &rows, paint))?;
    Ok(exit::OK)
}

pub(super) fn select(args: &MasterSelectArgs) -> Result<Status, Failure> {
    let masters = Masters::open()?;
    if args.name == "local" {
        masters.select(None)?;
        say("the default is the master of this machine\n")?;
        return Ok(exit::OK);
    }
    let Some(known) = masters.find(&args.name)? else { return Err(masters.unknown(&args.name)?) };
    masters.select(Some(&args.name))?;
    say(&format!("the default is {} ({})\n", args.name, known.address))?;
    Ok(exit::OK)
}

pub(super) fn show(args: &MasterShowArgs) -> Result<Status, Failure> {
    let masters = Masters::open()?;
    let selected = masters.selected()?;
    let Some(name) = args.name.clone().or_else(|| selected.clone()) else {
        if args.output != Format::Text {
            print_json_ignoring_closed(args.output, &Document::new(MasterList::new([], None)))?;
            return Ok(exit::OK);
        }
        say("no master is selected: the default is the master of this machine\n")?;
        return Ok(exit::OK);
    };
    let Some(known) = masters.find(&name)? else { return Err(masters.unknown(&name)?) };
    if args.output != Format::Text {
        let shown = MasterList::new([(name.as_str(), &known)], selected.as_deref());
        print_json_ignoring_closed(args.output, &Document::new(shown))?;
        return Ok(exit::OK);
    }
    say(&format!("{name}  {}\n", known.address))?;
    if !known.operator.is_empty() {
        say(&format!(
            "operator {} ({})\nCA fingerprint {}\nkey fingerprint {}\n",
            known.operator, known.role, known.ca_fingerprint, known.key_fingerprint
        ))?;
    }
    if selected.as_deref() == Some(&name) {
        say("selected: the default for commands\n")?;
    }
    Ok(exit::OK)
}

pub(super) fn remove(args: &MasterRemoveArgs) -> Result<Status, Failure> {
    Masters::open()?.remove(&args.name)?;
    say(&format!(
        "{} is removed here, with its key; an admin of that master can revoke it with `sloth-runner master operator revoke`\n",
        args.name
    ))?;
    Ok(exit::OK)
}
