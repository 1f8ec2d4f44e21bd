//! The commands of `bloom-runtime --help`, in groups; and all of them with their flags, for completion.
//!
//! Must stay true: every command stands in one group (a test compares with the list that is parsed).

use argh::{ArgsInfo, CommandInfoWithArgs, SubCommandInfo};

use super::TopLevel;

const GROUPS: [(&str, &[&str]); 4] = [
    ("Tasks", &["submit", "tasks", "task", "result", "log", "cancel", "requeue"]),
    ("Fleet", &["workers", "drain", "undrain", "stats", "audit", "retention"]),
    ("Server and worker", &["serve", "worker", "check", "health"]),
    ("Upkeep", &["doctor", "compact", "completions"]),
];

/// Every command, with its flags.
pub fn all_commands() -> Vec<SubCommandInfo> {
    TopLevel::get_args_info().commands
}

/// The top level's help with its commands in groups; any other text as it is.
pub fn grouped(help: String) -> String {
    let Some((before, rest)) = help.split_once("\n\nCommands:\n") else { return help };
    let (_, after) = rest.split_once("\n\n").unwrap_or((rest, ""));
    let commands = all_commands();
    let mut text = before.to_owned();
    for (group, names) in GROUPS {
        text.push_str(&format!("\n\n{group}:"));
        for name in names {
            let found = commands.iter().find(|command| command.name == *name);
            let description = found.map_or("", |command| one_line(&command.command));
            text.push_str(&format!("\n  {name:<13}{description}"));
        }
    }
    format!("{text}\n\n{after}")
}

/// The description without its full stop; of one that does not fit a line, its first part.
fn one_line(command: &CommandInfoWithArgs) -> &'static str {
    const ROOM: usize = 65;
    let whole = command.description.lines().next().unwrap_or_default().trim_end_matches('.');
    match whole.split_once(", ") {
        Some((first, _)) if whole.chars().count() > ROOM => first,
        _ => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_stands_in_one_group() {
        let mut grouped: Vec<_> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        let mut known: Vec<_> = all_commands().iter().map(|command| command.name).collect();
        grouped.sort_unstable();
        known.sort_unstable();
        assert_eq!(grouped, known);
    }
}
