//! `master operator add|login|list|revoke`.

use std::time::Duration;

use serde_json::{Value, json};

use super::{connect, on_one_thread};
use crate::{
    cli::{
        args::{
            Colour, Format, ToMaster,
            masters::{LoginStringArgs, OperatorListArgs, OperatorRevokeArgs, OperatorVerb},
        },
        exit::{self, Failure, Status},
        output::{Cell, Paint, Tone, note, say, say_json, stdout_is_terminal, table},
    },
    sys::{
        clock::{format_duration, local_time, unix_ms},
        socket::parse_address,
    },
    trust::token::Token,
    wire::{login::LoginString, proto, status::CallError},
};

pub(super) fn perform(verb: &OperatorVerb) -> Result<Status, Failure> {
    on_one_thread(async {
        match verb {
            OperatorVerb::Add(args) => {
                let request = proto::InviteOperatorRequest {
                    name: args.name.to_string(),
                    role: args.role.word().to_owned(),
                    unix_user: args.unix_user.clone().unwrap_or_default(),
                    ttl_ms: args.login.ttl.ms(),
                };
                invite(&args.to, request, &args.login).await
            }
            OperatorVerb::Login(args) => {
                let request = proto::InviteOperatorRequest {
                    name: args.name.to_string(),
                    ttl_ms: args.login.ttl.ms(),
                    ..proto::InviteOperatorRequest::default()
                };
                invite(&args.to, request, &args.login).await
            }
            OperatorVerb::List(args) => list(args).await,
            OperatorVerb::Revoke(args) => revoke(args).await,
        }
    })
}

async fn invite(
    to: &ToMaster,
    request: proto::InviteOperatorRequest,
    login: &LoginStringArgs,
) -> Result<Status, Failure> {
    let given = login.address.as_deref().map(|address| parse_address(address, Some(50053)));
    let given = given.transpose().map_err(Failure::usage)?;
    let name = request.name.clone();
    let unix_user = request.unix_user.clone();
    let client = connect(to).await?;
    let invited = client.calls().invite_operator(request).await.map_err(CallError::from)?.into_inner();
    if invited.token.is_empty() {
        say(&format!("{name} is the user {unix_user} of the master's machine; its socket needs no login\n"))?;
        return Ok(exit::OK);
    }
    let token: Token = invited.token.parse().map_err(Failure::new)?;
    let guess = parse_address(&invited.address_guess, None).ok();
    let is_guess = given.is_none();
    let port = u16::try_from(invited.port).unwrap_or_default();
    let (host, port) = given.or(guess).unwrap_or_else(|| ("MASTER".to_owned(), port));
    let shown = LoginString { token, host, port };
    note(&format!("{name} logs in once within {}, on its own machine:", format_duration(login.ttl.0)));
    say(&format!("echo {shown} | sloth-runner login\n"))?;
    if is_guess {
        note(&format!(
            "{}:{} is a guess at what that machine reaches; --address HOST:PORT says it.",
            shown.host, shown.port
        ));
    }
    Ok(exit::OK)
}

fn state(operator: &proto::Operator, now_ms: u64) -> (String, Option<Tone>) {
    let left = operator.login_until_ms.saturating_sub(now_ms);
    if operator.revoked {
        ("revoked".to_owned(), Some(Tone::Bad))
    } else if left > 0 {
        (format!("invited, for {}", format_duration(Duration::from_millis(left))), Some(Tone::Waiting))
    } else if operator.unix_user.is_empty() && operator.keys.is_empty() {
        ("its login has expired".to_owned(), Some(Tone::Bad))
    } else {
        ("active".to_owned(), Some(Tone::Good))
    }
}

async fn list(args: &OperatorListArgs) -> Result<Status, Failure> {
    let client = connect(&args.to).await?;
    let listed = client.calls().list_operators(proto::ListOperatorsRequest {}).await;
    let operators = listed.map_err(CallError::from)?.into_inner().operators;
    let now_ms = unix_ms();
    if args.output != Format::Text {
        let shown = operators.iter().map(|operator| {
            json!({
                "name": operator.name,
                "role": operator.role,
                "unix_user": operator.unix_user,
                "keys": operator.keys,
                "state": state(operator, now_ms).0,
                "login_until_ms": operator.login_until_ms,
                "added_ms": operator.added_ms,
                "added_by": operator.added_by,
                "logged_in_ms": operator.logged_in_ms,
                "revoked": operator.revoked,
            })
        });
        say_json(&Value::Array(shown.collect()))?;
        return Ok(exit::OK);
    }
    if operators.is_empty() {
        note(
            "no operators: only root and the master's own user may talk to it. `sloth-runner master operator add NAME --role ROLE` lets more in",
        );
        return Ok(exit::OK);
    }
    let rows: Vec<Vec<Cell>> = operators
        .iter()
        .map(|operator| {
            let (text, tone) = state(operator, now_ms);
            let when = |ms: u64| if ms == 0 { "-".to_owned() } else { local_time(ms, now_ms) };
            let known_by = match (operator.unix_user.as_str(), operator.keys.len()) {
                ("", 0) => "-".to_owned(),
                ("", 1) => "1 key".to_owned(),
                ("", count) => format!("{count} keys"),
                (user, _) => format!("user {user}"),
            };
            vec![
                Cell::from(operator.name.as_str()),
                Cell::from(operator.role.as_str()),
                tone.map_or_else(|| Cell::from(text.as_str()), |tone| Cell::toned(text.as_str(), tone)),
                Cell::from(known_by),
                Cell::from(when(operator.logged_in_ms)),
                Cell::from(when(operator.added_ms)),
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
    let request = proto::RevokeOperatorRequest { name: args.name.to_string() };
    let revoked = client.calls().revoke_operator(request).await.map_err(CallError::from)?.into_inner();
    let keys = match revoked.keys {
        0 => "it had no key".to_owned(),
        1 => "its key is worth nothing any more".to_owned(),
        count => format!("its {count} keys are worth nothing any more"),
    };
    say(&format!("{} is revoked: {keys}, and its connections are closed\n", args.name))?;
    Ok(exit::OK)
}
