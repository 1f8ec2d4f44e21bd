//! The commands for people: what each is called, takes and says of itself in `--help`.
//!
//! Must stay true: this is the one list of them; the help's groups and the completion scripts are made
//! from it. Values are checked here as far as they can be without asking anyone. Not here: keys (never
//! a flag), what the commands do (`people`).

use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgs};

use super::values::{budget, limit, priority, shell, status, timeout};

/// One command of a person.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand)]
pub enum PeopleCommand {
    Submit(SubmitFlags),
    Result(ResultFlags),
    Log(LogFlags),
    Tasks(TasksFlags),
    Task(TaskFlags),
    Cancel(CancelFlags),
    Requeue(RequeueFlags),
    Workers(WorkersFlags),
    Drain(DrainFlags),
    Undrain(UndrainFlags),
    Stats(StatsFlags),
    Audit(AuditFlags),
    Retention(RetentionFlags),
    Completions(CompletionsFlags),
}

/// Every one of them but `completions` asks a server and can pass its JSON on.
macro_rules! asking {
    ($(#[$meta:meta])* $name:ident { $($fields:tt)* }) => {
        #[derive(FromArgs, ArgsInfo, Debug, Default, PartialEq)]
        $(#[$meta])*
        pub struct $name {
            $($fields)*
            /// the server's address (BLOOM_SERVER; default http://127.0.0.1:5000)
            #[argh(option, arg_name = "url")]
            pub server: Option<String>,
            /// believe this authority's certificate, in PEM (BLOOM_CA)
            #[argh(option, arg_name = "file")]
            pub ca: Option<PathBuf>,
            /// believe the one certificate with this fingerprint, as the server says it (BLOOM_PIN)
            #[argh(option, arg_name = "sha256")]
            pub pin: Option<String>,
            /// print the JSON of the server as it came
            #[argh(switch)]
            pub json: bool,
        }

        impl $name {
            pub fn place(&self) -> Place<'_> {
                let (server, ca) = (self.server.as_deref(), self.ca.as_deref());
                Place { server, ca, pin: self.pin.as_deref() }
            }
        }
    };
}

/// Which server is meant, and how it is known, as far as flags say it.
#[derive(Clone, Copy, Default)]
pub struct Place<'a> {
    pub server: Option<&'a str>,
    pub ca: Option<&'a Path>,
    pub pin: Option<&'a str>,
}

/// Two commands that change the tasks that one names, or all that match.
macro_rules! choosing {
    ($(#[$meta:meta])* $name:ident) => {
        asking! {
            $(#[$meta])*
            $name {
                /// the tasks
                #[argh(positional)]
                pub ids: Vec<String>,
                /// all with this status; may be given more than once
                #[argh(option, arg_name = "status", from_str_fn(status))]
                pub status: Vec<String>,
                /// all for this agent
                #[argh(option, arg_name = "agent")]
                pub agent: Option<String>,
                /// all of this context
                #[argh(option, arg_name = "context")]
                pub context: Option<String>,
                /// all of this worker
                #[argh(option, arg_name = "worker")]
                pub worker: Option<String>,
                /// only say how many match
                #[argh(switch)]
                pub dry_run: bool,
                /// do not ask
                #[argh(switch)]
                pub yes: bool,
            }
        }

        impl $name {
            /// What the two have in common.
            pub fn choice(&self) -> Choice<'_> {
                Choice {
                    ids: &self.ids,
                    status: &self.status,
                    agent: self.agent.as_deref(),
                    context: self.context.as_deref(),
                    worker: self.worker.as_deref(),
                    dry_run: self.dry_run,
                    yes: self.yes,
                    json: self.json,
                }
            }
        }
    };
}

/// Which tasks are meant, and how sure the person is.
pub struct Choice<'a> {
    pub ids: &'a [String],
    pub status: &'a [String],
    pub agent: Option<&'a str>,
    pub context: Option<&'a str>,
    pub worker: Option<&'a str>,
    pub dry_run: bool,
    pub yes: bool,
    pub json: bool,
}

asking! {
    /// Put a task into the queue and print its id, or with --wait its result.
    #[argh(
        subcommand,
        name = "submit",
        usage = "[<prompt>] [<options>]",
        help_triggers("-h", "--help"),
        note = "The prompt is an argument, a file (--file), or what comes on stdin (-). With --wait the \
                result\nalone goes to stdout and everything else to stderr. Ctrl-C leaves the task \
                running.",
        example = "{command_name} \"Name three early tomatoes.\" --wait",
        example = "git diff | {command_name} - --agent reviewer --follow > review.md",
        example = "{command_name} --file report.md --label gpu --not-before 2h --retry",
        error_code(0, "done: queued, or with --wait the task completed"),
        error_code(1, "the task failed"),
        error_code(2, "the task is dead: its attempts are used up"),
        error_code(3, "the task was cancelled"),
        error_code(130, "interrupted while waiting; the task goes on")
    )]
    SubmitFlags {
        /// what Claude is asked
        #[argh(positional)]
        pub prompt: Option<String>,
        /// take the prompt from stdin; - is the same
        #[argh(switch)]
        pub stdin: bool,
        /// take the prompt from a file
        #[argh(option, arg_name = "file")]
        pub file: Option<String>,
        /// the agent that it is for (default: default)
        #[argh(option, arg_name = "agent")]
        pub agent: Option<String>,
        /// what it belongs to; tasks of one context prefer the same worker (default: one of its own)
        #[argh(option, arg_name = "context")]
        pub context: Option<String>,
        /// from 0 to 9; higher is handed out earlier (default 0)
        #[argh(option, arg_name = "n", from_str_fn(priority))]
        pub priority: Option<u8>,
        /// a label that the worker must offer; may be given more than once
        #[argh(option, arg_name = "label")]
        pub label: Vec<String>,
        /// seconds that one attempt may take, 1 to 3600 (default 120)
        #[argh(option, arg_name = "seconds", from_str_fn(timeout))]
        pub timeout: Option<u32>,
        /// dollars that one attempt may cost; 0 for no limit (default 0)
        #[argh(option, arg_name = "usd", from_str_fn(budget))]
        pub budget: Option<f64>,
        /// the answer must be JSON
        #[argh(switch)]
        pub json_answer: bool,
        /// try again, with pauses, when an attempt ends with an error that may pass
        #[argh(switch)]
        pub retry: bool,
        /// start no earlier: in 10m, 2h or 1d, or at 2027-01-31T06:00Z
        #[argh(option, arg_name = "when")]
        pub not_before: Option<String>,
        /// wait for the end and print the result
        #[argh(switch)]
        pub wait: bool,
        /// the same, and show what the task does meanwhile
        #[argh(switch)]
        pub follow: bool,
    }
}

asking! {
    /// Print what a task has answered.
    #[argh(
        subcommand,
        name = "result",
        help_triggers("-h", "--help", "help"),
        note = "The answer alone goes to stdout. The codes are those of submit --wait.",
        example = "{command_name} 00000000-0001-82fe-8349-1709e8771161 --wait > answer.txt",
        error_code(1, "the task failed"),
        error_code(2, "the task is dead: its attempts are used up"),
        error_code(3, "the task was cancelled"),
        error_code(75, "it has not ended yet, and --wait was not given")
    )]
    ResultFlags {
        /// the task
        #[argh(positional)]
        pub id: String,
        /// wait for the end
        #[argh(switch)]
        pub wait: bool,
        /// the same, and show what the task does meanwhile
        #[argh(switch)]
        pub follow: bool,
    }
}

asking! {
    /// Print what a task did so far.
    #[argh(
        subcommand,
        name = "log",
        help_triggers("-h", "--help", "help"),
        note = "The server keeps the newest lines of a task in memory; after its restart they are gone.",
        example = "{command_name} 00000000-0001-82fe-8349-1709e8771161 --follow"
    )]
    LogFlags {
        /// the task
        #[argh(positional)]
        pub id: String,
        /// go on until the task ends; the exit code tells its outcome
        #[argh(switch)]
        pub follow: bool,
    }
}

asking! {
    /// List tasks, newest first.
    #[argh(
        subcommand,
        name = "tasks",
        help_triggers("-h", "--help", "help"),
        example = "{command_name} --status running",
        example = "{command_name} --status failed --status dead --agent reviewer --limit 100"
    )]
    TasksFlags {
        /// only those with this status; may be given more than once
        #[argh(option, arg_name = "status", from_str_fn(status))]
        pub status: Vec<String>,
        /// only those for this agent
        #[argh(option, arg_name = "agent")]
        pub agent: Option<String>,
        /// only those of this context
        #[argh(option, arg_name = "context")]
        pub context: Option<String>,
        /// only those that this worker has or had last
        #[argh(option, arg_name = "worker")]
        pub worker: Option<String>,
        /// only those with this text in prompt, agent or context, whatever its case
        #[argh(option, arg_name = "text")]
        pub text: Option<String>,
        /// how many at the most, 1 to 10000 (default 20)
        #[argh(option, arg_name = "n", from_str_fn(limit))]
        pub limit: Option<usize>,
    }
}

asking! {
    /// Tell everything about one task.
    #[argh(
        subcommand,
        name = "task",
        help_triggers("-h", "--help", "help"),
        note = "--json prints the task as it came, with its waiting, attempt_list and result beside its \
                own fields.",
        example = "{command_name} 00000000-0001-82fe-8349-1709e8771161"
    )]
    TaskFlags {
        /// the task
        #[argh(positional)]
        pub id: String,
    }
}

choosing! {
    /// Call tasks off, by id or all that match.
    #[argh(
        subcommand,
        name = "cancel",
        usage = "[<id>...] [<options>]",
        help_triggers("-h", "--help", "help"),
        note = "What matches is counted first; on a terminal you are asked, elsewhere --yes is needed.",
        example = "{command_name} 00000000-0001-82fe-8349-1709e8771161",
        example = "{command_name} --status queued --agent reviewer --dry-run"
    )]
    CancelFlags
}

choosing! {
    /// Put failed, dead or cancelled tasks back into the queue.
    #[argh(
        subcommand,
        name = "requeue",
        usage = "[<id>...] [<options>]",
        help_triggers("-h", "--help", "help"),
        note = "What matches is counted first; on a terminal you are asked, elsewhere --yes is needed.",
        example = "{command_name} 00000000-0001-82fe-8349-1709e8771161",
        example = "{command_name} --status dead --yes"
    )]
    RequeueFlags
}

asking! {
    /// List the workers, or tell everything about one.
    #[argh(
        subcommand,
        name = "workers",
        help_triggers("-h", "--help", "help"),
        example = "{command_name}",
        example = "{command_name} rpi4b"
    )]
    WorkersFlags {
        /// the worker
        #[argh(positional)]
        pub name: Option<String>,
    }
}

asking! {
    /// Give a worker no more tasks; what it runs goes on.
    #[argh(
        subcommand,
        name = "drain",
        help_triggers("-h", "--help", "help"),
        example = "{command_name} rpi4b"
    )]
    DrainFlags {
        /// the worker
        #[argh(positional)]
        pub worker: String,
    }
}

asking! {
    /// Give a worker tasks again, also one that cools down after a limit.
    #[argh(
        subcommand,
        name = "undrain",
        help_triggers("-h", "--help", "help"),
        example = "{command_name} rpi4b"
    )]
    UndrainFlags {
        /// the worker
        #[argh(positional)]
        pub worker: String,
    }
}

asking! {
    /// Count tasks, leases and workers.
    #[argh(
        subcommand,
        name = "stats",
        help_triggers("-h", "--help", "help"),
        example = "{command_name}"
    )]
    StatsFlags {}
}

asking! {
    /// Show what would be removed now because its time is over, and what is the oldest.
    #[argh(
        subcommand,
        name = "retention",
        help_triggers("-h", "--help", "help"),
        example = "{command_name}"
    )]
    RetentionFlags {}
}

asking! {
    /// List what was done, by whom and when, newest first.
    #[argh(
        subcommand,
        name = "audit",
        help_triggers("-h", "--help", "help"),
        example = "{command_name} --limit 100"
    )]
    AuditFlags {
        /// how many at the most, 1 to 10000 (default 20)
        #[argh(option, arg_name = "n", from_str_fn(limit))]
        pub limit: Option<usize>,
    }
}

/// Print a script that completes this program's commands and flags.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(
    subcommand,
    name = "completions",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} bash > ~/.local/share/bash-completion/completions/bloom-runtime",
    example = "{command_name} zsh > ~/.zfunc/_bloom-runtime     (a folder of your fpath)",
    example = "{command_name} fish > ~/.config/fish/completions/bloom-runtime.fish"
)]
pub struct CompletionsFlags {
    /// bash, zsh or fish
    #[argh(positional, from_str_fn(shell))]
    pub shell: String,
}
