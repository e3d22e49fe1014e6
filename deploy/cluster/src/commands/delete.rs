//! `cluster delete`.

use serde_json::json;

use crate::cli::{DeleteArgs, Global};
use crate::client::Client;
use crate::exit::Failure;

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &DeleteArgs) -> Result<(), Failure> {
    let mut client = Client::connect(global).await?;
    for name in &args.names {
        client.delete(name).await?;
        if !global.json {
            println!("{name} is deleted");
        }
    }
    if global.json {
        println!("{}", json!({"deleted": args.names}));
    }
    Ok(())
}
