//! `docs/cli.md`, made from what clap knows. Nothing of it depends on the environment of whoever runs the test.

use clap::{Arg, ArgAction, Command, CommandFactory as _};

use super::Cli;
use crate::docs::{table, written};
use crate::exit::CODES;

/// The commands, in the order of `--help`: those that do something by themselves, with all words of their names.
fn leaves(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
    let subcommands: Vec<_> = command.get_subcommands().filter(|sub| sub.get_name() != "help").collect();
    if subcommands.is_empty() || command.get_arguments().any(is_own) {
        found.push((path.to_owned(), command.clone()));
    }
    for sub in subcommands {
        leaves(sub, &format!("{path} {}", sub.get_name()), found);
    }
}

fn cli() -> Command {
    let mut cli = Cli::command();
    cli.build();
    cli
}

/// The list of commands, flags of every command, then a section for each command.
fn reference() -> String {
    let cli = cli();
    let mut commands = Vec::new();
    leaves(&cli, "cluster", &mut commands);
    let links = commands.iter().map(|(name, command)| {
        let link = format!("[`{name}`](#{})", name.replace(' ', "-"));
        [link, command.get_about().map(ToString::to_string).unwrap_or_default()]
    });
    let mut page = format!("{}\n## Flags of every command\n\n", table(["command", "what it does"], links));
    page += &arguments(&cli, cli.get_arguments().filter(|arg| arg.is_global_set()));
    for (name, mut command) in commands {
        let usage = command.render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ");
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        page += &format!("\n## `{name}`\n\n{about}.\n\n```text\n{usage}\n```\n");
        let own: Vec<_> = command.get_arguments().filter(|arg| is_own(arg)).collect();
        if !own.is_empty() {
            page += &format!("\n{}", arguments(&command, own.into_iter()));
        }
    }
    page
}

fn is_own(arg: &Arg) -> bool {
    !arg.is_global_set() && !arg.is_hide_set() && arg.get_id() != "help" && arg.get_id() != "version"
}

fn arguments<'a>(command: &Command, arguments: impl Iterator<Item = &'a Arg>) -> String {
    let rows = arguments.map(|arg| {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        // Defaults that the code works out stand in the help.
        let default_text =
            help.trim_end_matches('.').strip_suffix(']').and_then(|help| help.split_once(" [default: "));
        let (help, default_text) = match default_text {
            Some((help, default_text)) => (help.to_owned(), default_text.to_owned()),
            None => (help.trim_end_matches('.').to_owned(), String::new()),
        };
        let default = match default_of(arg) {
            Some(default) => format!("`{default}`"),
            None if arg.is_required_set() => "required".to_owned(),
            None => default_text,
        };
        [format!("`{}`", shown(arg)), default, format!("{help}.{}", more(command, arg))]
    });
    table(["argument", "default", "meaning"], rows)
}

fn default_of(arg: &Arg) -> Option<String> {
    if !arg.get_action().takes_values() {
        return None;
    }
    let values = arg.get_default_values();
    let texts: Vec<_> = values.iter().map(|value| value.to_string_lossy()).collect();
    (!texts.is_empty() && texts != [""]).then(|| texts.join(","))
}

/// `--flag VALUE`, or the name of a positional argument.
fn shown(arg: &Arg) -> String {
    let values = arg.get_value_names().unwrap_or_default().join(" ");
    let may_miss_value = arg.get_num_args().is_some_and(|range| range.min_values() == 0);
    let repeats = matches!(arg.get_action(), ArgAction::Append) && arg.get_value_delimiter().is_none();
    match arg.get_long() {
        None if repeats => format!("{values}…"),
        None => values,
        Some(long) if !arg.get_action().takes_values() => format!("--{long}"),
        Some(long) if may_miss_value => format!("--{long} [{values}]"),
        Some(long) => format!("--{long} {values}"),
    }
}

/// What the help does not say: values, the environment variable, what the argument cannot be combined with.
fn more(command: &Command, arg: &Arg) -> String {
    let mut more = String::new();
    if arg.get_action().takes_values() {
        let values: Vec<String> = arg
            .get_possible_values()
            .iter()
            .map(|value| match value.get_help() {
                Some(help) => format!("`{}`: {}", value.get_name(), help.to_string().trim_end_matches('.')),
                None => format!("`{}`", value.get_name()),
            })
            .collect();
        if !values.is_empty() {
            more += &format!(" Values: {}.", values.join("; "));
        }
    }
    if let Some(variable) = arg.get_env() {
        more += &format!(" Environment variable: `{}`.", variable.to_string_lossy());
    }
    // A conflict is declared at one of the two.
    let excludes = |one: &Arg, other: &Arg| command.get_arg_conflicts_with(one).contains(&other);
    let others = command.get_arguments().filter(|other| excludes(arg, other) || excludes(other, arg));
    let others: Vec<_> =
        others.map(|other| format!("`--{}`", other.get_long().unwrap_or_default())).collect();
    if !others.is_empty() {
        more += &format!(" Not together with {}.", others.join(", "));
    }
    more
}

#[test]
fn the_documentation_lists_every_command_and_flag() {
    written("cli.md", "reference", &reference());
}

#[test]
fn the_documentation_lists_every_exit_code() {
    let name = |name: &str| if name.is_empty() { String::new() } else { format!("`{name}`") };
    let rows = CODES.map(|(code, json, meaning)| [code.to_string(), name(json), meaning.to_owned()]);
    written("cli.md", "exit codes", &table(["code", "`error.code`", "meaning"], rows));
}
