//! The command line: what can be asked for and what `--help` says.
//!
//! `bloom-runtime` alone is `serve` with its defaults. Values are kept as they were written; `config`
//! checks them, so that a flag and its variable are refused in the same words.
//! Deliberately not here: keys. An argument can be read by every user of the machine, so keys come from
//! the environment or a file alone.

mod groups;
mod like_serve;
pub mod people;
mod values;
mod worker;

use std::ffi::OsString;
use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs, SubCommands};

pub use worker::WorkerFlags;

use crate::exit;
pub use groups::all_commands;
use like_serve::{CheckFlags, HealthFlags, LikeServe};
use people::PeopleCommand;
pub use values::{SHELLS, STATUSES};

/// What the process was asked to do.
#[derive(Debug, PartialEq)]
pub enum Command {
    Serve(ServeFlags),
    Check(ServeFlags),
    Health(ServeFlags),
    Worker(WorkerFlags),
    Compact(CompactFlags),
    Doctor(DoctorFlags),
    People(PeopleCommand),
}

/// The command line has been answered already: print `text` and end with `code`.
#[derive(Debug, PartialEq)]
pub struct EarlyExit {
    /// For stdout when `code` is [`exit::OK`] (help, version), else one line for stderr.
    pub text: String,
    pub code: u8,
}

#[derive(FromArgs, ArgsInfo)]
#[argh(
    help_triggers("-h", "--help", "help"),
    description = "A durable queue of LLM tasks with fenced leases for a fleet of machines running \
                   Claude CLI.\n\nWithout a command it serves, with the settings of \
                   /etc/bloom-runtime.env and of the environment.",
    example = "{command_name} serve --worker        serve, with a worker on this machine",
    example = "{command_name} check                 see what a start would do, without starting",
    example = "{command_name} worker --server http://192.168.1.10:5000 --name rpi4b\n      add \
               this machine to the fleet of that server",
    example = "{command_name} submit \"Name three early tomatoes.\" --wait\n      give the fleet a \
               task and print its answer",
    note = "The commands for people find the server by --server, BLOOM_SERVER or \
            ~/.config/bloom-runtime.env,\nand its key by RUNTIME_API_KEY, RUNTIME_API_KEY_FILE or \
            the same file; never by a flag.",
    error_code(1, "the task failed; 2 it is dead; 3 it was cancelled (submit --wait, result)"),
    error_code(64, "the command line or the configuration is wrong"),
    error_code(65, "the server refuses: no such task, or not in its state"),
    error_code(69, "no server there; serve: the address is in use"),
    error_code(74, "the data directory, its files or the output cannot be used"),
    error_code(75, "not now: the server or its disk is busy, or the task has not ended"),
    error_code(76, "what answers there is no bloom-runtime, or an older one"),
    error_code(77, "the server refuses the key")
)]
struct TopLevel {
    /// print the version
    #[argh(switch)]
    version: bool,
    #[argh(subcommand)]
    command: Option<Subcommand>,
}

/// Commands that work on this machine, and those that ask a server.
enum Subcommand {
    Machine(MachineCommand),
    People(PeopleCommand),
}

impl SubCommands for Subcommand {
    const COMMANDS: &'static [&'static argh::CommandInfo] = MachineCommand::COMMANDS;

    fn dynamic_commands() -> &'static [&'static argh::CommandInfo] {
        PeopleCommand::COMMANDS
    }
}

impl FromArgs for Subcommand {
    fn from_args(command_name: &[&str], args: &[&str]) -> Result<Self, argh::EarlyExit> {
        let name = command_name.last().copied().unwrap_or_default();
        match PeopleCommand::COMMANDS.iter().any(|command| command.name == name) {
            true => PeopleCommand::from_args(command_name, args).map(Subcommand::People),
            false => MachineCommand::from_args(command_name, args).map(Subcommand::Machine),
        }
    }
}

impl ArgsInfo for Subcommand {
    fn get_args_info() -> argh::CommandInfoWithArgs {
        let mut info = MachineCommand::get_args_info();
        info.commands.extend(PeopleCommand::get_args_info().commands);
        info
    }
}

#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand)]
enum MachineCommand {
    Serve(ServeFlags),
    Check(CheckFlags),
    Health(HealthFlags),
    Worker(WorkerFlags),
    Compact(CompactFlags),
    Doctor(DoctorFlags),
}

/// Start the server, and with --worker a worker in the same process.
#[derive(Clone, FromArgs, ArgsInfo, Debug, Default, PartialEq)]
#[argh(
    subcommand,
    name = "serve",
    help_triggers("-h", "--help", "help"),
    note = "`serve` starts the server. `check` and `health` take the same flags: the one says what \
            `serve` would do, the other asks the server that it started. They start nothing.",
    note = "Flags win over the environment, the environment over the env file. Keys are never flags: \
            set RUNTIME_API_KEY and MEMBRIDGE_ADMIN_KEY, or RUNTIME_API_KEY_FILE and so on.",
    example = "{command_name} --data-dir /srv/bloom --host 0.0.0.0 --port 5000",
    example = "{command_name} --worker --max-concurrency 2"
)]
pub struct ServeFlags {
    /// where everything is kept (DATA_DIR; default /var/lib/bloom-runtime)
    #[argh(option, arg_name = "dir")]
    pub data_dir: Option<PathBuf>,
    /// address to listen on, IPv4 or IPv6 (HOST; default 0.0.0.0 with RUNTIME_API_KEY, 127.0.0.1 without)
    #[argh(option, arg_name = "address")]
    pub host: Option<String>,
    /// port to listen on, 0 for any free one (PORT; default 5000)
    #[argh(option, arg_name = "port")]
    pub port: Option<String>,
    /// settings file (default /etc/bloom-runtime.env, which may be absent)
    #[argh(option, arg_name = "file")]
    pub env_file: Option<PathBuf>,
    /// serve the page from this folder, uncached, while it is being made (default: what is built in)
    #[argh(option, arg_name = "dir")]
    pub ui_dir: Option<PathBuf>,
    /// also run a worker in this process
    #[argh(switch)]
    pub worker: bool,
    /// that worker's name (default local)
    #[argh(option, arg_name = "name")]
    pub worker_name: Option<String>,
    /// how many tasks that worker runs at once, 1 to 32 (default 1)
    #[argh(option, arg_name = "n", from_str_fn(concurrency))]
    pub max_concurrency: Option<u32>,
    /// path of that worker's Claude CLI (default claude, found on PATH)
    #[argh(option, arg_name = "path")]
    pub claude: Option<PathBuf>,
    /// that worker's settings of each agent, in JSON (default: no tools for anyone)
    #[argh(option, arg_name = "file")]
    pub agents: Option<PathBuf>,
}

impl ServeFlags {
    /// The first flag that means nothing without `--worker`.
    fn orphan(&self) -> Option<&'static str> {
        if self.worker {
            return None;
        }
        let name = self.worker_name.as_ref().map(|_| "--worker-name");
        let concurrency = self.max_concurrency.map(|_| "--max-concurrency");
        let claude = self.claude.as_ref().map(|_| "--claude");
        let agents = self.agents.as_ref().map(|_| "--agents");
        name.or(concurrency).or(claude).or(agents)
    }
}

impl ServeFlags {
    /// For a command that works on a data directory while no server runs.
    pub fn of_directory(data_dir: &Option<PathBuf>, env_file: &Option<PathBuf>) -> Self {
        let (data_dir, env_file) = (data_dir.clone(), env_file.clone());
        ServeFlags { data_dir, env_file, ..ServeFlags::default() }
    }
}

/// Give the space of removed records back to the filesystem, while no server runs.
#[derive(FromArgs, ArgsInfo, Debug, Default, PartialEq)]
#[argh(
    subcommand,
    name = "compact",
    help_triggers("-h", "--help", "help"),
    note = "It rewrites what stands at the end of the files into free places before it, in place: it \
            needs no extra space, and time in proportion to what is moved. Cut off, nothing is lost; \
            the next start repairs the file, which reads all of it.",
    example = "{command_name} --data-dir /srv/bloom"
)]
pub struct CompactFlags {
    /// where everything is kept (DATA_DIR; default /var/lib/bloom-runtime)
    #[argh(option, arg_name = "dir")]
    pub data_dir: Option<PathBuf>,
    /// settings file (default /etc/bloom-runtime.env, which may be absent)
    #[argh(option, arg_name = "file")]
    pub env_file: Option<PathBuf>,
}

/// Examine the data directory while no server runs, and say in words what is wrong.
#[derive(FromArgs, ArgsInfo, Debug, Default, PartialEq)]
#[argh(
    subcommand,
    name = "doctor",
    help_triggers("-h", "--help", "help"),
    note = "It reads all of both files and holds every record against the others: tasks, leases, \
            results, counts, lists, the audit trail. It writes nothing: what a start would repair \
            after a crash is repaired in memory.",
    example = "{command_name} --data-dir /srv/bloom",
    error_code(0, "everything holds that must hold"),
    error_code(74, "something does not, or a server has the directory open")
)]
pub struct DoctorFlags {
    /// where everything is kept (DATA_DIR; default /var/lib/bloom-runtime)
    #[argh(option, arg_name = "dir")]
    pub data_dir: Option<PathBuf>,
    /// settings file (default /etc/bloom-runtime.env, which may be absent)
    #[argh(option, arg_name = "file")]
    pub env_file: Option<PathBuf>,
    /// also hold every page against its checksum
    #[argh(switch)]
    pub deep: bool,
}

fn concurrency(value: &str) -> Result<u32, String> {
    match value.parse() {
        Ok(n @ 1..=32) => Ok(n),
        _ => Err("it is not a number from 1 to 32; write for example --max-concurrency 2".into()),
    }
}

/// Reads the arguments after the program's own name. `--port=5000` is the same as `--port 5000`.
///
/// # Errors
/// Help and version (code 0), or what is wrong with the command line (code 64).
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, EarlyExit> {
    let words = words(args)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let top =
        TopLevel::from_args(&["bloom-runtime"], &words).map_err(|exit| match exit.status {
            Ok(()) => EarlyExit { text: groups::grouped(exit.output), code: exit::OK },
            Err(()) => usage(&exit.output),
        })?;
    if top.version {
        let text = concat!("bloom-runtime ", env!("CARGO_PKG_VERSION"), "\n").to_owned();
        return Err(EarlyExit { text, code: exit::OK });
    }
    let command = match top.command {
        None => Command::Serve(ServeFlags::default()),
        Some(Subcommand::People(command)) => Command::People(command),
        Some(Subcommand::Machine(command)) => match command {
            MachineCommand::Serve(flags) => Command::Serve(flags),
            MachineCommand::Check(LikeServe(flags, ..)) => Command::Check(flags),
            MachineCommand::Health(LikeServe(flags, ..)) => Command::Health(flags),
            MachineCommand::Worker(flags) => Command::Worker(flags),
            MachineCommand::Compact(flags) => Command::Compact(flags),
            MachineCommand::Doctor(flags) => Command::Doctor(flags),
        },
    };
    if let Command::Serve(flags) | Command::Check(flags) | Command::Health(flags) = &command
        && let Some(orphan) = flags.orphan()
    {
        return Err(usage(&format!("{orphan} needs --worker beside it")));
    }
    Ok(command)
}

/// The arguments as argh takes them: `--flag=value` in two, and `-` as the switch that it stands for.
/// What follows `--` is left alone.
fn words(args: impl IntoIterator<Item = OsString>) -> Result<Vec<String>, EarlyExit> {
    let mut words: Vec<String> = Vec::new();
    let mut flags_ended = false;
    for arg in args {
        let arg = arg.into_string().map_err(|arg| usage(&format!("{arg:?} is not UTF-8 text")))?;
        match arg.split_once('=') {
            _ if flags_ended => words.push(arg),
            Some((flag, value)) if flag.starts_with("--") => {
                words.extend([flag.to_owned(), value.to_owned()]);
            }
            None if arg == "-" && words.last().is_none_or(|last| last != "--file") => {
                words.push("--stdin".to_owned());
            }
            _ => {
                flags_ended = arg == "--";
                words.push(arg);
            }
        }
    }
    Ok(words)
}

/// One line, whatever argh or the arguments had in them.
fn usage(fault: &str) -> EarlyExit {
    let words: Vec<&str> = fault.split_whitespace().collect();
    let line: String = words.join(" ").chars().filter(|c| !c.is_control()).collect();
    let line = line.trim_end_matches('.');
    EarlyExit { text: format!("{line}. See bloom-runtime --help\n"), code: exit::USAGE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Command, EarlyExit> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_program_alone_serves_with_its_defaults() {
        assert_eq!(parse_line(""), Ok(Command::Serve(ServeFlags::default())));
    }

    #[test]
    fn serve_and_check_take_the_same_flags() {
        let flags = "--data-dir /d --host ::1 --port=0 --env-file /e --worker --worker-name w \
                     --max-concurrency 2 --claude /bin/claude";
        let Ok(Command::Serve(serve)) = parse_line(&format!("serve {flags}")) else { panic!() };
        let Ok(Command::Check(check)) = parse_line(&format!("check {flags}")) else { panic!() };
        assert_eq!(serve, check);
        assert_eq!(serve.port.as_deref(), Some("0"));
        assert_eq!(serve.max_concurrency, Some(2));
        assert!(serve.worker);
    }

    #[test]
    fn a_wrong_command_line_is_one_line_and_code_64() {
        for line in [
            "nope",
            "--port 1",
            "serve --nope",
            "serve --port",
            "serve --port 1 --port 2",
            "serve --max-concurrency 0 --worker",
            "serve --max-concurrency 33 --worker",
            "serve --worker-name w",
            "check --claude x",
            "compact --force",
            "worker",
            "worker --name \x1b[2Jn --nope",
        ] {
            let exit = parse_line(line).unwrap_err();
            assert_eq!(exit.code, exit::USAGE, "{line}");
            let text = exit.text.strip_suffix('\n').unwrap();
            assert!(!text.contains(char::is_control), "{line}: {text}");
        }
    }

    #[test]
    fn help_and_version_are_answers_and_no_errors() {
        let helped = ["--help", "-h", "help", "serve --help", "check -h", "worker --help"];
        for line in helped.into_iter().chain(["compact --help"]) {
            let exit = parse_line(line).unwrap_err();
            assert_eq!(exit.code, exit::OK, "{line}");
            assert!(exit.text.contains("Examples:"), "{line}: {}", exit.text);
        }
        let check = parse_line("check --help").unwrap_err().text;
        assert!(check.contains("bloom-runtime check"), "{check}");
        assert!(check.contains("Check the configuration and say"), "{check}");
        assert!(!check.contains("Start the server"), "{check}");
        let version = parse_line("--version").unwrap_err();
        assert_eq!(version.code, exit::OK);
        assert!(version.text.starts_with("bloom-runtime 0."), "{}", version.text);
    }
}
