//! The settings of a worker process: flags for what is its own, the environment for the key.
//!
//! The same sources and the same words as the server's [`super::Config`]; what the worker does with
//! them is not here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use log::LevelFilter;

use super::error::{ConfigError, shown};
use super::sources::{self, ReadFile, Sources};
use super::{BaseUrl, Secret, log_level, parse_base_url};
use crate::cli::WorkerFlags;

/// Longest worker name and label, in characters (CONTRACT §3).
const MAX_NAME_CHARS: usize = 128;

/// A worker's settings, all of them checked.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    pub server: BaseUrl,
    pub name: String,
    /// 1 to 32.
    pub max_concurrency: u32,
    /// Claude CLI; a bare name is looked for on `PATH`.
    pub claude: PathBuf,
    pub labels: Vec<String>,
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
        WorkerConfig::load(flags, file, &env, &sources::read_text)
    }

    /// The arguments are those of [`super::Config::load`].
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn load(
        flags: &WorkerFlags,
        file_text: Option<(&Path, &str)>,
        env: &BTreeMap<String, String>,
        read_file: ReadFile<'_>,
    ) -> Result<WorkerConfig, ConfigError> {
        let sources = Sources::new(file_text, env, read_file)?;
        let server = parse_base_url(&flags.server).map_err(|fault| {
            let example = "--server http://192.168.1.10:5000";
            ConfigError::new("--server", fault.to_string(), example)
        })?;
        Ok(WorkerConfig {
            server,
            name: name(&flags.name, "--name", "rpi4b")?,
            max_concurrency: flags.max_concurrency.unwrap_or(1),
            claude: flags.claude.clone().unwrap_or_else(|| PathBuf::from("claude")),
            labels: flags
                .label
                .iter()
                .map(|label| name(label, "--label", "arm64"))
                .collect::<Result<_, _>>()?,
            runtime_api_key: sources.header_secret("RUNTIME_API_KEY")?,
            log_level: log_level(&sources)?,
        })
    }
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
        WorkerFlags {
            server: server.into(),
            name: name.into(),
            max_concurrency: None,
            claude: None,
            label: vec!["arm64".into()],
            env_file: None,
        }
    }

    fn load(flags: &WorkerFlags) -> Result<WorkerConfig, ConfigError> {
        let env = BTreeMap::from([("RUNTIME_API_KEY".to_owned(), "k".to_owned())]);
        WorkerConfig::load(flags, None, &env, &|_| panic!("no file is named"))
    }

    #[test]
    fn a_worker_takes_its_key_from_the_environment_and_the_rest_from_flags() {
        let config = load(&flags("http://h:5000/", "rpi4b")).unwrap();
        assert_eq!(config.server.as_str(), "http://h:5000");
        assert_eq!((config.max_concurrency, config.labels.len()), (1, 1));
        assert!(config.runtime_api_key.unwrap().matches(b"k"));
    }

    #[test]
    fn a_flag_that_cannot_be_used_is_named() {
        let error = load(&flags("h:5000", "rpi4b")).unwrap_err().to_string();
        assert!(error.starts_with("--server: does not begin with http://"), "{error}");
        let error = load(&flags("http://h", "a\nb")).unwrap_err().to_string();
        assert!(error.starts_with(r#"--name: "a\nb" is not 1 to 128"#), "{error}");
    }
}
