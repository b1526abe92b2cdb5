//! `master token create|list|revoke`.

use std::time::Duration;

use serde_json::{Value, json};

use super::{connect, on_one_thread};
use crate::{
    cli::{
        args::{
            Colour, Format,
            master::{TokenCreateArgs, TokenListArgs, TokenRevokeArgs, TokenVerb},
        },
        exit::{self, Failure, Status},
        output::{Cell, Paint, note, say, say_json, stdout_is_terminal, table},
    },
    domain::{fingerprint::plain_digits, terms::Terms},
    sys::{
        clock::{format_duration, local_time, unix_ms},
        socket::{parse_address, shown_address},
    },
    wire::{proto, status::CallError},
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
            let (host, port) = parse_address(address, Some(50053)).map_err(Failure::usage)?;
            Some(shown_address(&host, port))
        }
        None => None,
    };
    let client = connect(&args.to).await?;
    let terms = args.terms();
    let request = proto::CreateTokenRequest {
        ttl_ms: args.ttl.ms(),
        uses: args.uses,
        terms: Some(terms.clone().into()),
    };
    let created = client.calls().create_token(request).await.map_err(CallError::from)?.into_inner();
    let known =
        created.terms.clone().map(Terms::try_from).transpose().unwrap_or_default().unwrap_or_default();
    if known != terms {
        let id = created.id;
        client.calls().revoke_token(proto::RevokeTokenRequest { id }).await.map_err(CallError::from)?;
        return Err(Failure::new(
            "this master is older than terms of tokens: it would let anyone in with this token, which is revoked again. Upgrade the master, or leave out --label, --names, --from and --report-address",
        ));
    }
    let uses = if args.uses == 1 { "once".to_owned() } else { format!("{} times", args.uses) };
    let shown = terms.to_string();
    let only = if shown.is_empty() { String::new() } else { format!(" ({shown})") };
    note(&format!(
        "A join token, good {uses} within {}{only}. On the agent's machine:",
        format_duration(args.ttl.0)
    ));
    let is_guess = address.is_none();
    let address = address.unwrap_or_else(|| {
        if created.address_guess.is_empty() {
            format!("MASTER:{}", created.port)
        } else {
            created.address_guess.clone()
        }
    });
    say(&format!(
        "echo {} | sloth-runner agent start --master {address} --token-file - --daemon\n",
        created.token
    ))?;
    if is_guess {
        note(&format!("{address} is a guess at what agents reach; --address HOST:PORT says it."));
    }
    note(&format!("`sloth-runner master token revoke {}` takes it back.", created.id));
    Ok(exit::OK)
}

async fn list(args: &TokenListArgs) -> Result<Status, Failure> {
    let client = connect(&args.to).await?;
    let listed = client.calls().list_tokens(proto::ListTokensRequest {}).await;
    let tokens = listed.map_err(CallError::from)?.into_inner().tokens;
    if args.output != Format::Text {
        let shown = tokens.iter().map(|token| {
            json!({
                "id": token.id,
                "uses_left": token.uses_left,
                "expires_ms": token.expires_ms,
                "made_ms": token.made_ms,
                "made_by": token.made_by,
                "terms": terms_json(token.terms.as_ref()),
            })
        });
        say_json(&Value::Array(shown.collect()))?;
        return Ok(exit::OK);
    }
    if tokens.is_empty() {
        note("no join tokens. `sloth-runner master token create` makes one");
        return Ok(exit::OK);
    }
    let now_ms = unix_ms();
    let rows: Vec<Vec<Cell>> = tokens
        .iter()
        .map(|token| {
            let left = Duration::from_millis(token.expires_ms.saturating_sub(now_ms));
            let made = if token.made_ms == 0 { "-".to_owned() } else { local_time(token.made_ms, now_ms) };
            let by = if token.made_by.is_empty() { "-" } else { &token.made_by };
            vec![
                Cell::from(token.id.as_str()),
                Cell::from(token.uses_left.to_string()),
                Cell::from(format!("in {}", format_duration(left))),
                Cell::from(made),
                Cell::from(by),
                Cell::from(terms_text(token.terms.clone())),
            ]
        })
        .collect();
    let paint = Paint::new(Colour::Auto, stdout_is_terminal());
    say(&table(&["ID", "AGENTS", "EXPIRES", "CREATED", "CREATED BY", "TERMS"], &rows, paint))?;
    Ok(exit::OK)
}

/// A token's terms in words; a dash for none.
fn terms_text(terms: Option<proto::TokenTerms>) -> String {
    let terms = terms.and_then(|terms| Terms::try_from(terms).ok()).unwrap_or_default().to_string();
    if terms.is_empty() { "-".to_owned() } else { terms }
}

fn terms_json(terms: Option<&proto::TokenTerms>) -> Value {
    let terms = terms.cloned().unwrap_or_default();
    json!({
        "labels": terms.labels,
        "names": terms.names,
        "from": terms.from,
        "report_address": terms.direct,
    })
}

async fn revoke(args: &TokenRevokeArgs) -> Result<Status, Failure> {
    let client = connect(&args.to).await?;
    for id in &args.ids {
        let request = proto::RevokeTokenRequest { id: id.clone() };
        let revoked = client.calls().revoke_token(request).await.map_err(CallError::from)?.into_inner();
        let agents = match revoked.uses_left {
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
