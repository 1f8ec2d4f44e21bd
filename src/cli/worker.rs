//! The flags of `bloom-runtime worker`.
//!
//! Values are kept as they were written; `config` checks them. Not here: the key, which is never a flag.

use super::concurrency;
use argh::{ArgsInfo, FromArgs};
use std::path::PathBuf;

/// Run Claude CLI on the tasks of a server.
#[derive(FromArgs, ArgsInfo, Debug, Default, PartialEq)]
#[argh(
    subcommand,
    name = "worker",
    help_triggers("-h", "--help", "help"),
    note = "The key comes from RUNTIME_API_KEY or RUNTIME_API_KEY_FILE, in the environment or the env \
            file; never from a flag.",
    note = "The agents file is a JSON object of agent slugs and \"default\", each with any of model, \
            allowed_tools, permission_mode, system_prompt, append_system_prompt, timeout_sec. Without \
            it Claude has no tools.",
    note = "SIGTERM lets running tasks finish within the grace period and hands the others back to \
            the queue; a second one does so at once.",
    example = "RUNTIME_API_KEY_FILE=/etc/bloom.key {command_name} --server \
               http://192.168.1.10:5000 --name rpi4b --max-concurrency 2 --label arm64 --label home"
)]
pub struct WorkerFlags {
    /// the server's address, such as http://192.168.1.10:5000
    #[argh(option, arg_name = "url")]
    pub server: String,
    /// believe this authority's certificate, in PEM (BLOOM_CA)
    #[argh(option, arg_name = "file")]
    pub ca: Option<PathBuf>,
    /// believe the one certificate with this fingerprint, as the server says it (BLOOM_PIN)
    #[argh(option, arg_name = "sha256")]
    pub pin: Option<String>,
    /// this worker's name, unique in the fleet, 1 to 128 characters
    #[argh(option, arg_name = "name")]
    pub name: String,
    /// how many tasks to run at once, 1 to 32 (default 1)
    #[argh(option, arg_name = "n", from_str_fn(concurrency))]
    pub max_concurrency: Option<u32>,
    /// path of Claude CLI (default claude, found on PATH)
    #[argh(option, arg_name = "path")]
    pub claude: Option<PathBuf>,
    /// a label that tasks can ask for; may be given more than once
    #[argh(option, arg_name = "label")]
    pub label: Vec<String>,
    /// settings of each agent, in JSON (default: no tools for anyone)
    #[argh(option, arg_name = "file")]
    pub agents: Option<PathBuf>,
    /// the folder whose files tasks may name as context (default none)
    #[argh(option, arg_name = "dir")]
    pub root: Option<PathBuf>,
    /// go on with one conversation for each agent and context; keeps transcripts on this machine
    #[argh(switch)]
    pub sessions: bool,
    /// where sessions are kept (default $XDG_STATE_HOME/bloom-worker or ~/.local/state/bloom-worker)
    #[argh(option, arg_name = "dir")]
    pub state_dir: Option<PathBuf>,
    /// what running tasks get to finish at SIGTERM, 0 to 3600 (default 10)
    #[argh(option, arg_name = "seconds", from_str_fn(grace))]
    pub grace: Option<u64>,
    /// how long a task waits for another machine when this one has died, 5 to 3600 (default 90)
    #[argh(option, arg_name = "seconds", from_str_fn(lease_seconds))]
    pub lease_seconds: Option<u32>,
    /// settings file (default /etc/bloom-runtime.env, which may be absent)
    #[argh(option, arg_name = "file")]
    pub env_file: Option<PathBuf>,
    /// check these flags and the settings, and start nothing
    #[argh(switch)]
    pub check: bool,
}

fn grace(value: &str) -> Result<u64, String> {
    match value.parse() {
        Ok(seconds @ 0..=3600) => Ok(seconds),
        _ => Err("it is not a number from 0 to 3600; write for example --grace 60".into()),
    }
}

fn lease_seconds(value: &str) -> Result<u32, String> {
    match value.parse() {
        Ok(seconds @ 5..=3600) => Ok(seconds),
        _ => Err("it is not a number from 5 to 3600; write for example --lease-seconds 60".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Command, parse};
    use std::ffi::OsString;
    use std::path::Path;

    fn parse_line(line: &str) -> Result<Command, super::super::EarlyExit> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn a_worker_has_any_number_of_labels() {
        let line = "worker --server http://h:1 --name n --label a --label=b=c";
        let Ok(Command::Worker(flags)) = parse_line(line) else { panic!() };
        assert_eq!(flags.label, ["a", "b=c"]);
    }

    #[test]
    fn what_a_worker_may_do_is_said_by_flags() {
        let line = "worker --server http://h:1 --name n --agents a.json --root /srv --sessions \
                    --state-dir /s --grace 0 --lease-seconds 5";
        let Ok(Command::Worker(flags)) = parse_line(line) else { panic!() };
        assert_eq!(flags.agents.as_deref(), Some(Path::new("a.json")));
        assert_eq!(flags.root.as_deref(), Some(Path::new("/srv")));
        assert_eq!(flags.state_dir.as_deref(), Some(Path::new("/s")));
        assert!(flags.sessions && flags.grace == Some(0) && flags.lease_seconds == Some(5));
        assert!(parse_line("worker --server http://h:1 --name n --lease-seconds 4").is_err());
        assert!(parse_line("worker --server http://h:1 --name n --grace 3601").is_err());
    }
}
