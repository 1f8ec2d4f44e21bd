//! The settings of a worker process: flags for what is its own, the environment for the key.
//!
//! The same sources and the same words as the server's [`super::Config`]; what the worker does with
//! them is not here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::LevelFilter;

use super::error::{ConfigError, shown};
use super::sources::{self, ReadFile, Sources};
use super::{BaseUrl, Believed, Secret, log_level, parse_base_url};
use crate::cli::WorkerFlags;
use crate::worker::{Agents, DEFAULT_GRACE, DEFAULT_LEASE_SECONDS};

/// Longest worker name and label, in characters (CONTRACT §3).
const MAX_NAME_CHARS: usize = 128;

/// A worker's settings, all of them checked.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    pub server: BaseUrl,
    pub believed: Believed,
    pub name: String,
    /// 1 to 32.
    pub max_concurrency: u32,
    /// Claude CLI; a bare name is looked for on `PATH`.
    pub claude: PathBuf,
    pub labels: Vec<String>,
    pub agents: Agents,
    /// Where the files are that tasks may name; an absolute path of a folder.
    pub root: Option<PathBuf>,
    /// Where sessions are kept; none: they are off. An absolute path.
    pub state_dir: Option<PathBuf>,
    pub grace: Duration,
    pub lease_seconds: u32,
    pub runtime_api_key: Option<Secret>,
    pub log_level: LevelFilter,
}

impl WorkerConfig {
    /// Reads the environment and the files that it or the flags name.
    ///
    /// # Errors
    /// As [`WorkerConfig::load`], or the env file cannot be read.
    pub fn from_process(flags: &WorkerFlags) -> Result<WorkerConfig, ConfigError> {
        let env = sources::process_environment()?;
        let file = sources::read_env_file(flags.env_file.as_deref())?;
        let file = file.as_ref().map(|(path, text)| (path.as_path(), text.as_str()));
        let state_dir = default_state_dir(sources::environment_for_children());
        WorkerConfig::load(flags, file, &env, &sources::read_text, state_dir)
    }

    /// The arguments are those of [`super::Config::load`], and where sessions are kept unless a flag
    /// says it.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn load(
        flags: &WorkerFlags,
        file_text: Option<(&Path, &str)>,
        env: &BTreeMap<String, String>,
        read_file: ReadFile<'_>,
        default_state_dir: Option<PathBuf>,
    ) -> Result<WorkerConfig, ConfigError> {
        let sources = Sources::new(file_text, env, read_file)?;
        let server = parse_base_url(&flags.server).map_err(|fault| {
            let example = "--server http://192.168.1.10:5000";
            ConfigError::new("--server", fault.to_string(), example)
        })?;
        Ok(WorkerConfig {
            server,
            believed: Believed::load(flags.ca.as_deref(), flags.pin.as_deref(), &[&sources])?,
            name: name(&flags.name, "--name", "rpi4b")?,
            max_concurrency: flags.max_concurrency.unwrap_or(1),
            claude: flags.claude.clone().unwrap_or_else(|| PathBuf::from("claude")),
            labels: flags
                .label
                .iter()
                .map(|label| name(label, "--label", "arm64"))
                .collect::<Result<_, _>>()?,
            agents: agents(flags.agents.as_deref(), read_file)?,
            root: flags.root.as_deref().map(root).transpose()?,
            state_dir: state_dir(flags, default_state_dir)?,
            grace: flags.grace.map_or(DEFAULT_GRACE, Duration::from_secs),
            lease_seconds: flags.lease_seconds.unwrap_or(DEFAULT_LEASE_SECONDS),
            runtime_api_key: sources.header_secret("RUNTIME_API_KEY")?,
            log_level: log_level(&sources)?,
        })
    }
}

/// The settings of each agent, from the file that `--agents` names.
///
/// # Errors
/// It cannot be read, or something in it cannot be right.
pub fn agents(path: Option<&Path>, read_file: ReadFile<'_>) -> Result<Agents, ConfigError> {
    let Some(path) = path else { return Ok(Agents::default()) };
    let read = read_file(path).map_err(|error| format!("cannot be read: {error}"));
    read.and_then(|text| Agents::parse(&text)).map_err(|fault| {
        let subject = format!("--agents {}", shown(&path.to_string_lossy()));
        let example =
            r#"{"default": {"model": "sonnet"}, "reviewer": {"allowed_tools": ["Read"]}}"#;
        ConfigError::new(subject, fault, example)
    })
}

fn root(path: &Path) -> Result<PathBuf, ConfigError> {
    let fault = match std::path::absolute(path) {
        Ok(path) if path.is_dir() => return Ok(path),
        _ => format!("{} is no folder", shown(&path.to_string_lossy())),
    };
    Err(ConfigError::new("--root", fault, "--root /srv/garden"))
}

fn state_dir(
    flags: &WorkerFlags,
    default: Option<PathBuf>,
) -> Result<Option<PathBuf>, ConfigError> {
    let example = "--sessions --state-dir /var/lib/bloom-worker";
    let path = match (flags.sessions, &flags.state_dir) {
        (false, None) => return Ok(None),
        (false, Some(_)) => {
            return Err(ConfigError::new("--state-dir", "needs --sessions beside it", example));
        }
        (true, given) => given.clone().or(default),
    };
    path.and_then(|path| std::path::absolute(path).ok()).map(Some).ok_or_else(|| {
        ConfigError::new(
            "--sessions",
            "needs a folder, and neither HOME nor --state-dir is set",
            example,
        )
    })
}

/// `$XDG_STATE_HOME/bloom-worker` or `~/.local/state/bloom-worker`.
fn default_state_dir(environment: impl Iterator<Item = (OsString, OsString)>) -> Option<PathBuf> {
    let (mut state, mut home) = (None, None);
    for (name, value) in environment.filter(|(_, value)| !value.is_empty()) {
        match name.to_str() {
            Some("XDG_STATE_HOME") => state = Some(PathBuf::from(value)),
            Some("HOME") => home = Some(PathBuf::from(value).join(".local/state")),
            _ => {}
        }
    }
    Some(state.or(home)?.join("bloom-worker"))
}

fn name(text: &str, flag: &str, example: &str) -> Result<String, ConfigError> {
    let fits = (1..=MAX_NAME_CHARS).contains(&text.chars().count());
    if fits && !text.contains(char::is_control) && !text.trim().is_empty() {
        return Ok(text.to_owned());
    }
    let fault = format!("{} is not 1 to {MAX_NAME_CHARS} printable characters", shown(text));
    Err(ConfigError::new(flag, fault, format!("{flag} {example}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(server: &str, name: &str) -> WorkerFlags {
        let label = vec!["arm64".into()];
        WorkerFlags { server: server.into(), name: name.into(), label, ..WorkerFlags::default() }
    }

    fn load(flags: &WorkerFlags) -> Result<WorkerConfig, ConfigError> {
        let env = BTreeMap::from([("RUNTIME_API_KEY".to_owned(), "k".to_owned())]);
        let read = |path: &Path| match path.to_str() {
            Some("good.json") => Ok(r#"{"default": {"model": "opus"}}"#.to_owned()),
            Some("bad.json") => Ok("{\"a\":\n{\"modell\": 1}}".to_owned()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        };
        WorkerConfig::load(flags, None, &env, &read, Some("/home/w/.local/state".into()))
    }

    #[test]
    fn a_worker_takes_its_key_from_the_environment_and_the_rest_from_flags() {
        let config = load(&flags("http://h:5000/", "rpi4b")).unwrap();
        assert_eq!(config.server.as_str(), "http://h:5000");
        assert_eq!((config.max_concurrency, config.labels.len()), (1, 1));
        assert!(config.runtime_api_key.unwrap().matches(b"k"));
    }

    #[test]
    fn whom_a_worker_believes_is_said_by_flags_or_settings() {
        let pin = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
        let with = |pin: Option<&str>, env: &[(&str, &str)]| {
            let pin = pin.map(str::to_owned);
            let flags = WorkerFlags { pin, ..flags("https://h", "w") };
            let env = env.iter().map(|(name, value)| (name.to_string(), value.to_string()));
            WorkerConfig::load(&flags, None, &env.collect(), &|_| panic!(), None)
        };
        let set = with(None, &[("BLOOM_PIN", pin), ("BLOOM_CA", "/ca.pem")]).unwrap().believed;
        assert_eq!(set.pin.unwrap().to_string().replace(':', "").to_lowercase(), pin);
        assert_eq!(set.ca.as_deref(), Some(Path::new("/ca.pem")));
        assert_eq!(with(Some(pin), &[("BLOOM_PIN", "x")]).unwrap().believed.pin, set.pin);
        let error = with(Some("2d71"), &[]).unwrap_err().to_string();
        assert!(error.starts_with("--pin: \"2d71\" is no SHA-256"), "{error}");
        let error = with(None, &[("BLOOM_PIN", "x")]).unwrap_err().to_string();
        assert!(error.starts_with("BLOOM_PIN: "), "{error}");
    }

    #[test]
    fn a_flag_that_cannot_be_used_is_named() {
        let error = load(&flags("h:5000", "rpi4b")).unwrap_err().to_string();
        assert!(error.starts_with("--server: does not begin with http://"), "{error}");
        let error = load(&flags("http://h", "a\nb")).unwrap_err().to_string();
        assert!(error.starts_with(r#"--name: "a\nb" is not 1 to 128"#), "{error}");
    }

    #[test]
    fn the_agents_file_stops_the_start_with_the_fault_in_it() {
        let with =
            |file: &str| load(&WorkerFlags { agents: Some(file.into()), ..flags("http://h", "w") });
        let model = with("good.json").unwrap().agents.of("any").model.clone();
        assert_eq!(model.as_deref(), Some("opus"));
        for (file, fault) in [("bad.json", "unknown field `modell`"), ("none", "cannot be read")] {
            let error = with(file).unwrap_err().to_string();
            assert!(error.contains(file) && error.contains(fault), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn sessions_have_a_folder_and_only_they() {
        let with = |sessions, state_dir: Option<&str>| {
            let state_dir = state_dir.map(PathBuf::from);
            load(&WorkerFlags { sessions, state_dir, ..flags("http://h", "w") })
        };
        let dir = |sessions, given| with(sessions, given).unwrap().state_dir;
        assert_eq!(dir(false, None), None);
        assert_eq!(dir(true, None), Some("/home/w/.local/state".into()));
        assert_eq!(dir(true, Some("/s")), Some("/s".into()));
        assert!(with(false, Some("/s")).unwrap_err().to_string().contains("needs --sessions"));
        let vars = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            default_state_dir(pairs.collect::<Vec<_>>().into_iter())
        };
        assert_eq!(vars(&[("HOME", "/h")]), Some("/h/.local/state/bloom-worker".into()));
        let both = [("XDG_STATE_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(vars(&both), Some("/x/bloom-worker".into()));
        assert_eq!(vars(&[("HOME", "")]), None);
    }

    #[test]
    fn a_root_is_a_folder_that_is_there() {
        let with =
            |root: &str| load(&WorkerFlags { root: Some(root.into()), ..flags("http://h", "w") });
        assert_eq!(with("/").unwrap().root, Some("/".into()));
        assert!(with("/nowhere/at/all").unwrap_err().to_string().contains("is no folder"));
    }
}
