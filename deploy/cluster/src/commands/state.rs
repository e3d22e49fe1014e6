//! `cluster state`: what people asked for, out of a cluster into a file, and from a file into a store that is empty.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use millstream_head::store::Store;
use millstream_head::store::embedded::EmbeddedStore;
use millstream_head::{DataDirLock, State};
use serde_json::json;

use crate::client::Client;
use crate::data_dir::{DataDir, write_private};
use crate::exit::Failure;
use crate::global::Global;
use crate::input;
use crate::output::Output;
use crate::up::store::StoreArgs;

/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Flags of `cluster state`.
#[derive(Debug, Args)]
pub(crate) struct StateArgs {
    #[command(subcommand)]
    action: StateAction,
}

/// What can be done about it.
#[derive(Debug, Subcommand)]
enum StateAction {
    /// Write pipelines with their revisions, scales, keys, usage and events of a cluster that runs to a file that only you can read.
    Export {
        /// The file; it is replaced as a whole.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Put the state of a file into an empty store while no head runs on it: of the data directory, or --store.
    Import {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        store: Box<StoreArgs>,
    },
}

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &StateArgs) -> Result<(), Failure> {
    let output = Output::of(global);
    match &args.action {
        StateAction::Export { file } => {
            let text = Client::connect(global).await?.export_state().await?;
            let state = read(file, &text)?;
            write_private(file, &text)?;
            let entries = state.entries.len();
            output.show(&json!({"file": file, "entries": entries, "cluster_id": state.cluster_id}), || {
                format!("{entries} entries of cluster {} are in `{}`", state.cluster_id, file.display())
            })
        }
        StateAction::Import { file, store } => {
            let text = input::read_text("the state's file", file, MAX_FILE_BYTES)?;
            let state = read(file, &text)?;
            let cluster_id = state.cluster_id.clone();
            let entries = import(global, store, state).await?;
            output.show(&json!({"entries": entries, "cluster_id": cluster_id}), || {
                format!("{entries} entries of cluster {cluster_id} are in the store; `cluster up` goes on with them")
            })
        }
    }
}

fn read(file: &Path, text: &str) -> Result<State, Failure> {
    State::from_text(text).map_err(|error| Failure::invalid(format!("`{}`: {error}", file.display())))
}

async fn import(global: &Global, store: &StoreArgs, state: State) -> Result<usize, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::failed(error.to_string());
    if let Some(shared) = store.open().await? {
        return state.import(shared.as_ref()).await.map_err(|error| failed(&error));
    }
    let data_dir = DataDir::of(global)?;
    data_dir.create()?;
    let _lock = DataDirLock::acquire(data_dir.path()).map_err(|error| failed(&error))?;
    let dir = data_dir.path().to_owned();
    let opened = tokio::task::spawn_blocking(move || EmbeddedStore::open(&dir)).await;
    let store = opened.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    let imported = state.import(&store as &dyn Store).await.map_err(|error| failed(&error));
    store.close();
    imported
}
