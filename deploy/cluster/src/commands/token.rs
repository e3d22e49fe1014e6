//! `cluster token`: tokens that open the dashboard and its API for reading. A token is made here and shown once.

use std::time::{Duration, UNIX_EPOCH};

use clap::{Args, Subcommand, ValueEnum};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use millstream_pipelines::parse_duration;
use millstream_proto::token::TokenStatus;
use millstream_proto::v1;
use serde_json::json;

use crate::client::Client;
use crate::exit::Failure;
use crate::global::Global;
use crate::output::{self, Output};
use crate::secret::Secret;

/// Flags of `cluster token`.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// What to do.
    #[command(subcommand)]
    action: TokenAction,
}

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenAction {
    /// Make a token and print it; nobody can show it again.
    Create {
        /// Its name, by which it is listed and deleted [default: the role and four random characters].
        name: Option<String>,
        /// What whoever has it may do.
        #[arg(long, value_enum)]
        role: RoleArg,
        /// How long it counts, such as 12h or 30d [default: until it is deleted].
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        ttl: Option<Duration>,
    },
    /// Show the tokens.
    List,
    /// Delete a token: it is refused from then on.
    Delete {
        /// Its name.
        #[arg(value_name = "TOKEN")]
        name: String,
    },
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArg {
    /// Sees the dashboard, its API and the metrics; changes nothing.
    Viewer,
    /// Lets a machine join; not there yet: machines join with the head's `join.token`.
    Worker,
}

/// Runs the command.
pub(crate) async fn run(global: &Global, args: TokenArgs) -> Result<(), Failure> {
    match args.action {
        TokenAction::Create { name, role, ttl } => create(global, name, role, ttl).await,
        TokenAction::List => list(global).await,
        TokenAction::Delete { name } => {
            Client::connect(global).await?.delete_token(&name).await?;
            Output::of(global).show(&json!({"deleted": name}), || format!("token {name} is deleted"))
        }
    }
}

async fn create(
    global: &Global,
    name: Option<String>,
    role: RoleArg,
    ttl: Option<Duration>,
) -> Result<(), Failure> {
    if role == RoleArg::Worker {
        return Err(Failure::usage(
            "there are no tokens for workers yet; copy `join.token` from the head's data directory to the other machine, \
             and give it with `cluster up --join HOST:7400 --token-file FILE`",
        ));
    }
    let secret = Secret::new("mt_")?;
    let name = match name {
        Some(name) => name,
        None => format!("viewer-{}", suffix(&secret.sha256)),
    };
    let request = v1::CreateTokenRequest {
        name,
        sha256: secret.sha256.into(),
        role: "viewer".to_owned(),
        ttl_ms: ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
    };
    let status = Client::connect(global).await?.create_token(request).await?;
    let mut answer = json!(status);
    answer["token"] = secret.text.clone().into();
    Output::of(global).show(&answer, || {
        // The token alone goes to stdout, so that a script can take it from there.
        output::note(format_args!("{}; this is the token, which is shown this once:", sentence_of(&status)));
        secret.text
    })
}

/// Four letters and digits by which names differ.
fn suffix(sha256: &[u8]) -> String {
    sha256.iter().take(2).map(|byte| format!("{byte:02x}")).collect()
}

async fn list(global: &Global) -> Result<(), Failure> {
    let tokens = Client::connect(global).await?.tokens().await?;
    Output::of(global).show(&json!({"tokens": tokens}), || match &tokens[..] {
        [] => "there are no tokens but the admin token; `cluster token create --role viewer` makes one"
            .to_owned(),
        tokens => table(tokens),
    })
}

/// A token in a sentence.
fn sentence_of(token: &TokenStatus) -> String {
    let TokenStatus { name, role, expires_at_ms, .. } = token;
    let end =
        expires_at_ms.map_or_else(|| "until it is deleted".to_owned(), |end| format!("until {}", date(end)));
    format!("token {name} has the role {role} {end}")
}

fn date(at_ms: u64) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(at_ms)).unwrap_or(UNIX_EPOCH);
    humantime::format_rfc3339_seconds(at).to_string()
}

fn table(tokens: &[TokenStatus]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["NAME", "ROLE", "CREATED", "ENDS"]);
    for token in tokens {
        let end = token.expires_at_ms.map_or_else(|| "-".to_owned(), date);
        table.add_row([token.name.clone(), token.role.to_string(), date(token.created_at_ms), end]);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use millstream_proto::token::Role;

    use super::*;

    #[test]
    fn a_table_and_a_sentence_tell_when_a_token_ends() {
        let token = TokenStatus {
            name: "grafana".into(),
            role: Role::Viewer,
            created_at_ms: 1_700_000_000_000,
            expires_at_ms: Some(1_700_000_060_000),
        };
        let sentence = "token grafana has the role viewer until 2023-11-14T22:14:20Z";
        assert_eq!(sentence_of(&token), sentence);
        let table = table(&[token]);
        for part in ["ENDS", "grafana", "viewer", "2023-11-14T22:13:20Z", "2023-11-14T22:14:20Z"] {
            assert!(table.contains(part), "{table}");
        }
    }
}
