//! `master token create|list|revoke`.

use chrono::Local;

use super::{connect, on_one_thread};
use crate::{
    cli::{
        args::{
            Colour, Format,
            master::{TokenCreateArgs, TokenListArgs, TokenRevokeArgs, TokenVerb},
        },
        exit::{self, Failure, Status},
        json::{Document, TokenList},
        output::{Cell, Paint, note, print_json_ignoring_closed, say, stdout_is_terminal, table},
    },
    domain::{
        control::{CreateToken, RevokeToken},
        fingerprint::plain_digits,
        network::HostPort,
        terms::Terms,
        time::{UnixMs, format_duration, local_time},
    },
    sys::clock::unix_ms,
};

pub(super) fn perform(verb: &TokenVerb) -> Result<Status, Failure> {
    on_one_thread(async {
        match verb {
            TokenVerb::Create(args) => create(args).await,
            TokenVerb::List(args) => list(args).await,
            TokenVerb::Revoke(args) => revoke(args).await,
        }
    })
}

async fn create(args: &TokenCreateArgs) -> Result<Status, Failure> {
    let address = match &args.address {
        Some(address) => {
            let HostPort { host, port } = HostPort::parse(address, Some(50053)).map_err(Failure::usage)?;
            Some(HostPort::new(&host, port).to_string())
        }
        None => None,
    };
    let client = connect(&args.to).await?;
    let terms = args.terms();
    let request = CreateToken { ttl_ms: args.ttl.ms(), uses: args.uses, terms: terms.clone() };
    let created = client.create_token(request).await?;
    if created.terms != terms {
        client.revoke_token(RevokeToken { id: created.id }).await?;
        return Err(Failure::new(
            "the master created a token with other terms, which was revoked: the master may be too old for these terms. Upgrade it",
        ));
    }
    let uses = if args.uses == 1 { "once".to_owned() } else { format!("{} times", args.uses) };
    let shown = terms.to_string();
    let only = if shown.is_empty() { String::new() } else { format!(" ({shown})") };
    note(&format!(
        "A join token, valid {uses} within {}{only}. On the agent's machine:",
        format_duration(args.ttl.0)
    ));
    let is_guess = address.is_none();
    let guess = || created.address_guess.clone().unwrap_or_else(|| format!("MASTER:{}", created.port));
    let address = address.unwrap_or_else(guess);
    say(&format!(
        "echo {} | sloth-runner agent start --master {address} --token-file - --daemon\n",
        created.token
    ))?;
    if is_guess {
        note(&format!(
            "{address} is a guess of the address at which agents reach this master; set it with --address HOST:PORT."
        ));
    }
    note(&format!("`sloth-runner master token revoke {}` revokes it.", created.id));
    Ok(exit::OK)
}

async fn list(args: &TokenListArgs) -> Result<Status, Failure> {
    let client = connect(&args.to).await?;
    let tokens = client.tokens().await?;
    if args.output != Format::Text {
        print_json_ignoring_closed(args.output, &Document::new(TokenList::new(&tokens)))?;
        return Ok(exit::OK);
    }
    if tokens.is_empty() {
        note("no join tokens. `sloth-runner master token create` creates one");
        return Ok(exit::OK);
    }
    let now_ms = UnixMs(unix_ms());
    let rows: Vec<Vec<Cell>> = tokens
        .iter()
        .map(|token| {
            let left = token.expires_ms.since(now_ms);
            let made =
                token.created_ms.map_or_else(|| "-".to_owned(), |made| local_time(made, now_ms, &Local));
            let by = token.created_by.as_deref().unwrap_or("-");
            vec![
                Cell::from(token.id.as_str()),
                Cell::from(token.uses_left.to_string()),
                Cell::from(format!("in {}", format_duration(left))),
                Cell::from(made),
                Cell::from(by),
                Cell::from(terms_text(&token.terms)),
            ]
        })
        .collect();
    let paint = Paint::new(Colour::Auto, stdout_is_terminal());
    say(&table(&["ID", "AGENTS", "EXPIRES", "CREATED", "CREATED BY", "TERMS"], &rows, paint))?;
    Ok(exit::OK)
}

/// Returns a token's terms as text; a dash if there are none.
fn terms_text(terms: &Terms) -> String {
    let text = terms.to_string();
    if text.is_empty() { "-".to_owned() } else { text }
}

async fn revoke(args: &TokenRevokeArgs) -> Result<Status, Failure> {
    let client = connect(&args.to).await?;
    for id in &args.ids {
        let agents = match client.revoke_token(RevokeToken { id: id.clone() }).await? {
            1 => "one more agent".to_owned(),
            count => format!("{count} more agents"),
        };
        say(&format!(
            "revoked token {}, which was valid for {agents}; agents that have joined with it stay enrolled\n",
            plain_digits(id)
        ))?;
    }
    Ok(exit::OK)
}
