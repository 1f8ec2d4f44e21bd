//! Where a setting comes from: the process environment, then the env file.
//!
//! What must stay true: an empty value counts as not set, so the next source is asked; a secret may
//! stand in a file of its own, named by `<NAME>_FILE`. The process environment wins over the env file
//! whichever of the two forms it uses; within one source `NAME` wins over `NAME_FILE`, and the loser is
//! remembered so that the start can say it. This is the only file that reads the environment.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::env_file::{self, Entry};
use super::error::{ConfigError, shown};
use super::secret::Secret;
use super::values::Values;

/// Read when no `--env-file` is given; it may be absent.
pub const DEFAULT_ENV_FILE: &str = "/etc/bloom-runtime.env";

/// Largest env file or secret file, in bytes (P9).
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Settings whose value may be shown.
const PLAIN: &[&str] = &[
    "AGENT_LIMITS",
    "ALLOWED_HOSTS",
    "ARCHIVE_AFTER_SECONDS",
    "ARTIFACT_INLINE",
    "ARTIFACTS_MB_MAX",
    "ARTIFACT_MB_MAX",
    "AUDIT_RETENTION_DAYS",
    "BLOOM_CA",
    "BLOOM_PIN",
    "BLOOM_RUNTIME_PORT",
    "BLOOM_SERVER",
    "COMPACT_IDLE_SECONDS",
    "DATA_DIR",
    "FORCE_HTTPS",
    "HOST",
    "HSTS_SECONDS",
    "HTTP_PORT",
    "LOG_LEVEL",
    "MEMBRIDGE_BUCKET",
    "MEMBRIDGE_SERVER_URL",
    "MEMBRIDGE_SYNC_SECONDS",
    "MINIO_ARTIFACT_BUCKET",
    "MINIO_ENDPOINT",
    "MINIO_PATH_STYLE",
    "MINIO_PORT",
    "MINIO_REGION",
    "MINIO_USE_SSL",
    "NODE_ENV",
    "OUTGOING_CA",
    "PORT",
    "PUBLIC_URL",
    "RATE_LIMIT_AUTHENTICATED",
    "RATE_LIMIT_PER_MINUTE",
    "RETENTION_DAYS",
    "RETENTION_S3",
    "TLS_CERT",
    "TLS_KEY",
    "TLS_SELF_SIGNED",
    "TRUSTED_PROXIES",
];

/// Settings whose value must never be shown (P10), each also as `<NAME>_FILE`.
const SECRET: &[&str] = &[
    "DATABASE_URL",
    "MEMBRIDGE_ADMIN_KEY",
    "MEMBRIDGE_AGENT_KEY",
    "MINIO_ACCESS_KEY",
    "MINIO_SECRET_KEY",
    "RUNTIME_API_KEY",
    "SESSION_SECRET",
];

fn is_known(name: &str) -> bool {
    PLAIN.contains(&name) || SECRET.contains(&name.strip_suffix("_FILE").unwrap_or(name))
}

/// How a file of text is read; a test hands in its own.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// The environment and the env file together.
pub struct Sources<'a> {
    env: &'a BTreeMap<String, String>,
    file: BTreeMap<String, Entry>,
    file_path: &'a Path,
    read_file: ReadFile<'a>,
    ignored: RefCell<Vec<String>>,
    values: RefCell<Values>,
}

/// A value that is not empty, and how to name its place to a person.
pub struct Found {
    pub value: String,
    pub subject: String,
}

impl<'a> Sources<'a> {
    /// # Errors
    /// A broken line of the env file.
    pub fn new(
        file_text: Option<(&'a Path, &str)>,
        env: &'a BTreeMap<String, String>,
        read_file: ReadFile<'a>,
    ) -> Result<Self, ConfigError> {
        let (file_path, text) = file_text.unwrap_or((Path::new(DEFAULT_ENV_FILE), ""));
        let file = env_file::parse(file_path, text, is_known)?;
        let (ignored, values) = (RefCell::default(), RefCell::default());
        Ok(Sources { env, file, file_path, read_file, ignored, values })
    }

    /// The value of a setting without the blanks around it; `None` when it is set nowhere.
    pub fn value(&self, name: &str) -> Option<Found> {
        let found = self.in_env(name).or_else(|| self.in_file(name))?;
        let value = found.value.trim().to_owned();
        self.values.borrow_mut().note(name, &value);
        Some(Found { value, ..found })
    }

    /// A setting put through `parse`, whose error is the fault in words.
    ///
    /// # Errors
    /// That fault, with the variable's name and place and `example` as a valid value.
    pub fn parsed<T>(
        &self,
        name: &str,
        example: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(found) = self.value(name) else { return Ok(None) };
        parse(&found.value)
            .map(Some)
            .map_err(|fault| ConfigError::new(found.subject, fault, format!("{name}={example}")))
    }

    /// A secret, from `name` or from the file that `<name>_FILE` names, without that file's trailing
    /// newline.
    ///
    /// # Errors
    /// The file cannot be read or holds nothing: an empty key would switch authentication off unseen.
    pub fn secret(&self, name: &str) -> Result<Option<(Secret, String)>, ConfigError> {
        let found = self.find_secret(name)?;
        if let Some((secret, _)) = &found {
            self.values.borrow_mut().note(name, secret.expose());
        }
        Ok(found)
    }

    fn find_secret(&self, name: &str) -> Result<Option<(Secret, String)>, ConfigError> {
        let file_name = format!("{name}_FILE");
        let chosen = match (self.in_env(name), self.in_env(&file_name)) {
            (None, None) => (self.in_file(name), self.in_file(&file_name)),
            of_env => of_env,
        };
        match chosen {
            (None, None) => Ok(None),
            (Some(direct), beside) => {
                if beside.is_some() {
                    self.ignored.borrow_mut().push(file_name);
                }
                Ok(Some((Secret::new(direct.value), direct.subject)))
            }
            (None, Some(pointer)) => {
                let path = Path::new(pointer.value.trim());
                let fault = match (self.read_file)(path) {
                    Ok(text) if !text.trim().is_empty() => {
                        let secret = Secret::new(text.trim_end_matches(['\r', '\n']));
                        return Ok(Some((secret, pointer.subject)));
                    }
                    Ok(_) => "is empty".to_owned(),
                    Err(error) => format!("cannot be read: {error}"),
                };
                let fault = format!("the file {} {fault}", shown(&path.to_string_lossy()));
                let example = format!("{file_name}=/etc/bloom-runtime/{}", name.to_lowercase());
                Err(ConfigError::new(pointer.subject, fault, example))
            }
        }
    }

    /// A secret that travels in an HTTP header. Errors as [`Self::secret`], and a value that no header
    /// can carry as it is.
    pub fn header_secret(&self, name: &str) -> Result<Option<Secret>, ConfigError> {
        Ok(self.placed_header_secret(name)?.map(|(secret, _)| secret))
    }

    /// The same with the place that it comes from.
    pub fn placed_header_secret(
        &self,
        name: &str,
    ) -> Result<Option<(Secret, String)>, ConfigError> {
        let Some((secret, subject)) = self.secret(name)? else { return Ok(None) };
        let text = secret.expose();
        let fault = if text.chars().any(char::is_control) {
            "holds a control character or line break, which no HTTP header can carry"
        } else if text.trim() != text {
            "begins or ends with a blank, which an HTTP header loses"
        } else {
            return Ok(Some((secret, subject)));
        };
        let example = format!("{name}=0f8b6c2e5d (for a good one: openssl rand -hex 32)");
        Err(ConfigError::new(subject, fault, example))
    }

    /// Names that were set but lost to another form of the same setting.
    pub fn ignored(&self) -> Vec<String> {
        self.ignored.borrow().clone()
    }

    /// All that was asked for so far, as it was found.
    pub fn into_values(self) -> Values {
        self.values.into_inner()
    }

    fn in_env(&self, name: &str) -> Option<Found> {
        let value = self.env.get(name).filter(|value| !value.trim().is_empty())?;
        Some(Found { value: value.clone(), subject: name.to_owned() })
    }

    fn in_file(&self, name: &str) -> Option<Found> {
        let entry = self.file.get(name).filter(|entry| !entry.value.trim().is_empty())?;
        let path = shown(&self.file_path.to_string_lossy());
        let subject = format!("{name} ({}:{})", path.trim_matches('"'), entry.line);
        Some(Found { value: entry.value.clone(), subject })
    }
}

/// The settings of ours in the process environment, and nothing else of it.
///
/// # Errors
/// One of them is not UTF-8.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn process_environment() -> Result<BTreeMap<String, String>, ConfigError> {
    let mut env = BTreeMap::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| is_known(name)) else { continue };
        let value = value.into_string().map_err(|_| {
            ConfigError::new(name, "is not UTF-8 text", format!("{name}=text in UTF-8"))
        })?;
        env.insert(name.to_owned(), value);
    }
    Ok(env)
}

/// The whole environment, for `worker::child_environment` to pick from.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn environment_for_children() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os()
}

/// One variable of the environment that is no setting of ours, such as `HOME`.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The env file's path and text: the one asked for, which must be there, or the default one, which
/// need not.
///
/// # Errors
/// It cannot be read.
pub fn read_env_file(asked: Option<&Path>) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let path = asked.unwrap_or(Path::new(DEFAULT_ENV_FILE));
    match read_text(path) {
        Ok(text) => Ok(Some((path.to_owned(), text))),
        Err(error) if asked.is_none() && error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let fault = format!("{} cannot be read: {error}", shown(&path.to_string_lossy()));
            let subject = if asked.is_some() { "--env-file" } else { "the env file" };
            Err(ConfigError::new(subject, fault, format!("--env-file {DEFAULT_ENV_FILE}")))
        }
    }
}

/// A small file as text.
///
/// # Errors
/// It cannot be read, is no UTF-8, or is larger than 256 KiB.
pub fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other("it is larger than 256 KiB"));
    }
    Ok(text)
}
