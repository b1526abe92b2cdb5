//! `master operator add|login|list|revoke`.

use chrono::Local;

use super::{connect, on_one_thread};
use crate::{
    cli::{
        args::{
            Colour, Format, ToMaster,
            masters::{LoginStringArgs, OperatorListArgs, OperatorRevokeArgs, OperatorVerb},
        },
        exit::{self, Failure, Status},
        json::{Document, OperatorList},
        output::{Cell, Paint, Tone, note, print_json_ignoring_closed, say, stdout_is_terminal, table},
    },
    domain::{
        control::{InviteOperator, RevokeOperator},
        network::HostPort,
        operator::OperatorState,
        time::{UnixMs, format_duration, local_time},
    },
    sys::clock::unix_ms,
    trust::token::Token,
    wire::login::LoginString,
};

pub(super) fn perform(verb: &OperatorVerb) -> Result<Status, Failure> {
    on_one_thread(async {
        match verb {
            OperatorVerb::Add(args) => {
                let request = InviteOperator {
                    name: args.name.clone(),
                    role: Some(args.role),
                    unix_user: args.unix_user.clone(),
                    ttl_ms: args.login.ttl.ms(),
                };
                invite(&args.to, request, &args.login).await
            }
            OperatorVerb::Login(args) => {
                let (name, ttl_ms) = (args.name.clone(), args.login.ttl.ms());
                let request = InviteOperator { name, role: None, unix_user: None, ttl_ms };
                invite(&args.to, request, &args.login).await
            }
            OperatorVerb::List(args) => list(args).await,
            OperatorVerb::Revoke(args) => revoke(args).await,
        }
    })
}

async fn invite(to: &ToMaster, request: InviteOperator, login: &LoginStringArgs) -> Result<Status, Failure> {
    let given = login.address.as_deref().map(|address| HostPort::parse(address, Some(50053)));
    let given = given.transpose().map_err(Failure::usage)?;
    let name = request.name.clone();
    let unix_user = request.unix_user.clone().unwrap_or_default();
    let client = connect(to).await?;
    let invited = client.invite_operator(request).await?;
    let Some(token) = invited.token else {
        say(&format!("{name} is the user {unix_user} of the master's machine; its socket needs no login\n"))?;
        return Ok(exit::OK);
    };
    let token: Token = token.parse().map_err(Failure::new)?;
    let guess = invited.address_guess.and_then(|guess| HostPort::parse(&guess, None).ok());
    let is_guess = given.is_none();
    let HostPort { host, port } = given.or(guess).unwrap_or_else(|| HostPort::new("MASTER", invited.port));
    let shown = LoginString { token, host, port };
    note(&format!("{name} logs in once within {}, on its own machine:", format_duration(login.ttl.0)));
    say(&format!("echo {shown} | sloth-runner login\n"))?;
    if is_guess {
        note(&format!(
            "{}:{} is a guess of the address at which that machine reaches this master; set it with --address HOST:PORT.",
            shown.host, shown.port
        ));
    }
    Ok(exit::OK)
}

fn state_text(state: OperatorState) -> (String, Tone) {
    match state {
        OperatorState::Active => ("active".to_owned(), Tone::Good),
        OperatorState::Invited(left) => (format!("invited, for {}", format_duration(left)), Tone::Waiting),
        OperatorState::Expired => ("its login has expired".to_owned(), Tone::Bad),
        OperatorState::Revoked => ("revoked".to_owned(), Tone::Bad),
    }
}

async fn list(args: &OperatorListArgs) -> Result<Status, Failure> {
    let client = connect(&args.to).await?;
    let operators = client.operators().await?;
    let now_ms = unix_ms();
    if args.output != Format::Text {
        print_json_ignoring_closed(args.output, &Document::new(OperatorList::new(&operators, now_ms)))?;
        return Ok(exit::OK);
    }
    if operators.is_empty() {
        note(
            "no operators: only root and the master's own user can use it. Add one with `sloth-runner master operator add NAME --role ROLE`",
        );
        return Ok(exit::OK);
    }
    let rows: Vec<Vec<Cell>> = operators
        .iter()
        .map(|operator| {
            let (text, tone) = state_text(operator.state(UnixMs(now_ms)));
            let logged_in = operator
                .logged_in_ms
                .map_or_else(|| "-".to_owned(), |when| local_time(when, UnixMs(now_ms), &Local));
            let known_by = match (&operator.unix_user, operator.keys.len()) {
                (None, 0) => "-".to_owned(),
                (None, 1) => "1 key".to_owned(),
                (None, count) => format!("{count} keys"),
                (Some(user), _) => format!("user {user}"),
            };
            vec![
                Cell::from(operator.name.as_str()),
                Cell::from(operator.role.word()),
                Cell::toned(text.as_str(), tone),
                Cell::from(known_by),
                Cell::from(logged_in),
                Cell::from(local_time(operator.added_ms, UnixMs(now_ms), &Local)),
                Cell::from(operator.added_by.as_str()),
            ]
        })
        .collect();
    let heading = ["NAME", "ROLE", "STATE", "AUTHENTICATION", "LAST LOGIN", "ADDED", "ADDED BY"];
    let paint = Paint::new(Colour::Auto, stdout_is_terminal());
    say(&table(&heading, &rows, paint))?;
    Ok(exit::OK)
}

async fn revoke(args: &OperatorRevokeArgs) -> Result<Status, Failure> {
    let client = connect(&args.to).await?;
    let keys = match client.revoke_operator(RevokeOperator { name: args.name.clone() }).await? {
        0 => "it had no key".to_owned(),
        1 => "its key is no longer valid".to_owned(),
        count => format!("its {count} keys are no longer valid"),
    };
    say(&format!("{} is revoked: {keys}, and its connections are closed\n", args.name))?;
    Ok(exit::OK)
}
