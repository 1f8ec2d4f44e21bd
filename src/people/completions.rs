//! `bloom-runtime completions`: a script that completes commands, flags and some of their values.
//!
//! Must stay true: everything in it comes from the definitions that the command line is read by
//! (`cli::all_commands`), so it cannot drift. Not here: ids and names of the server; a key press asks
//! nobody.

use crate::cli::{SHELLS, STATUSES, all_commands};
use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind};
use std::collections::BTreeMap;

/// The script for one of [`SHELLS`].
pub fn script(shell: &str) -> String {
    let commands: Vec<_> = all_commands().into_iter().map(|command| command.command).collect();
    match shell {
        "bash" => bash(&commands),
        "zsh" => zsh(&commands),
        _ => fish(&commands),
    }
}

/// What can stand behind a flag.
enum Values {
    /// The flag takes none.
    None,
    Words(&'static [&'static str]),
    Files,
    Free,
}

fn values(flag: &FlagInfo) -> Values {
    match flag.kind {
        FlagInfoKind::Switch => Values::None,
        FlagInfoKind::Option { arg_name: "status" } => Values::Words(&STATUSES),
        FlagInfoKind::Option { arg_name: "file" | "dir" | "path" } => Values::Files,
        FlagInfoKind::Option { .. } => Values::Free,
    }
}

/// What can stand where the command's own words go.
fn words(command: &CommandInfoWithArgs) -> &'static [&'static str] {
    if command.name == "completions" { &SHELLS } else { &[] }
}

fn bash(commands: &[CommandInfoWithArgs]) -> String {
    // What `compgen` is asked for, and before which flags.
    let mut valued: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut listed = String::new();
    for command in commands {
        let name = command.name;
        for flag in command.flags {
            let how = match values(flag) {
                Values::None => continue,
                Values::Words(words) => format!("-W '{}'", words.join(" ")),
                Values::Files => "-f".to_owned(),
                Values::Free => "-W ''".to_owned(),
            };
            valued.entry(how).or_default().push(format!("'{name} {}'", flag.long));
        }
        let flags = command.flags.iter().map(|flag| flag.long);
        let all: Vec<_> = words(command).iter().copied().chain(flags).collect();
        listed.push_str(&format!("            {name}) words='{}' ;;\n", all.join(" ")));
    }
    let valued: String = valued
        .iter()
        .map(|(how, flags)| format!("        {}) how=\"{how}\" ;;\n", flags.join("|")))
        .collect();
    let names: Vec<_> = commands.iter().map(|command| command.name).collect();
    format!(
        "# Completion of bloom-runtime for bash; made by: bloom-runtime completions bash\n\
         _bloom_runtime() {{\n\
         \x20   local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}}\n\
         \x20   local command= word how= words=\n\
         \x20   for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do\n\
         \x20       case $word in -*) ;; *) command=$word; break ;; esac\n\
         \x20   done\n\
         \x20   case \"$command $prev\" in\n{valued}    esac\n\
         \x20   if [ -z \"$how\" ]; then\n\
         \x20       case $command in\n\
         \x20           '') words='{} --help --version' ;;\n{listed}        esac\n\
         \x20       how=\"-W '$words'\"\n\
         \x20   fi\n\
         \x20   if [ \"$how\" = -f ]; then compopt -o filenames 2>/dev/null; fi\n\
         \x20   mapfile -t COMPREPLY < <(eval \"compgen $how\" -- '\"$cur\"')\n\
         }}\n\
         complete -F _bloom_runtime bloom-runtime\n",
        names.join(" ")
    )
}

fn zsh(commands: &[CommandInfoWithArgs]) -> String {
    let mut described = String::new();
    let mut arguments = String::new();
    for command in commands {
        let name = command.name;
        described
            .push_str(&format!("        {}\n", quoted(&format!("{name}:{}", first_line(command)))));
        let mut specs = String::new();
        for flag in command.flags {
            let what = flag.description.replace(['[', ']', ':'], " ");
            let behind = match values(flag) {
                Values::None => String::new(),
                Values::Words(words) => format!(":value:({})", words.join(" ")),
                Values::Files => ":file:_files".to_owned(),
                Values::Free => ":value: ".to_owned(),
            };
            specs.push_str(&format!(" {}", quoted(&format!("*{}[{what}]{behind}", flag.long))));
        }
        if !words(command).is_empty() {
            specs.push_str(&format!(
                " {}",
                quoted(&format!("1:value:({})", words(command).join(" ")))
            ));
        }
        arguments.push_str(&format!("        {name}) _arguments{specs} ;;\n"));
    }
    format!(
        "#compdef bloom-runtime\n\
         # Completion of bloom-runtime for zsh; made by: bloom-runtime completions zsh\n\
         _bloom-runtime() {{\n\
         \x20   local -a commands=(\n{described}    )\n\
         \x20   if (( CURRENT == 2 )); then\n\
         \x20       _describe command commands\n\
         \x20       return\n\
         \x20   fi\n\
         \x20   shift words\n\
         \x20   (( CURRENT-- ))\n\
         \x20   case $words[1] in\n{arguments}    esac\n\
         }}\n\
         if [ \"$funcstack[1]\" = _bloom-runtime ]; then _bloom-runtime \"$@\"; else compdef _bloom-runtime bloom-runtime; fi\n"
    )
}

fn fish(commands: &[CommandInfoWithArgs]) -> String {
    let mut script =
        "# Completion of bloom-runtime for fish; made by: bloom-runtime completions fish\n\
                      complete -c bloom-runtime -f\n"
            .to_owned();
    for command in commands {
        let name = command.name;
        let what = quoted(first_line(command));
        script.push_str(&format!(
            "complete -c bloom-runtime -n __fish_use_subcommand -a {name} -d {what}\n"
        ));
        let seen = format!("complete -c bloom-runtime -n '__fish_seen_subcommand_from {name}'");
        for flag in command.flags {
            let long = flag.long.trim_start_matches('-');
            let behind = match values(flag) {
                Values::None => String::new(),
                Values::Words(words) => format!(" -x -a '{}'", words.join(" ")),
                Values::Files => " -r -F".to_owned(),
                Values::Free => " -x".to_owned(),
            };
            let what = quoted(flag.description);
            script.push_str(&format!("{seen} -l {long}{behind} -d {what}\n"));
        }
        if !words(command).is_empty() {
            script.push_str(&format!("{seen} -a '{}'\n", words(command).join(" ")));
        }
    }
    script
}

fn first_line(command: &CommandInfoWithArgs) -> &'static str {
    command.description.lines().next().unwrap_or_default().trim_end_matches('.')
}

/// One word for every one of the three shells: descriptions hold no quote of their own.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "’"))
}
