//! Every setting of the server, read once before anything starts (CONTRACT §5).
//!
//! What must stay true: [`Config::load`] is pure; what it returns is checked, so nobody asks again;
//! flags win over the process environment, which wins over the env file; a value that cannot be used
//! stops the start with one line. Nothing that existing env files hold may be in the way of a start
//! merely because this version does not use it: that is a note.
//! Deliberately not here: settings that are saved while running; those live in the store.

mod artifacts;
mod base_url;
mod env_file;
mod error;
mod network;
mod people;
mod retention;
mod s3;
mod secret;
mod sources;
#[cfg(test)]
mod tests;
mod tls;
mod values;
mod worker;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use log::LevelFilter;

pub use artifacts::FileLimits;
pub use base_url::{BaseUrl, UrlFault, parse_base_url};
pub use error::ConfigError;
pub use network::Network;
pub use people::{EnvFile, PeopleConfig};
pub use retention::Keeping;
pub use s3::Minio;
pub use secret::Secret;
pub use sources::{DEFAULT_ENV_FILE, ReadFile, environment_for_children};
pub use tls::{BELIEVED_BY, Believed, OwnCertificate, TlsConfig};
pub use values::Values;
pub use worker::WorkerConfig;

use crate::cli::ServeFlags;
use crate::worker::Agents;
use base_url::is_host_name;
use error::shown;
use sources::{Found, Sources};

const DEFAULT_DATA_DIR: &str = "/var/lib/bloom-runtime";

/// The largest limit of an agent, and the most agents that have one: each is looked at by every claim.
const AGENT_LIMIT_MAX: u32 = 1_000_000;
const AGENT_LIMITS_MAX: usize = 200;

/// The server's settings, all of them checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub host: IpAddr,
    /// 0 means any free port.
    pub port: u16,
    pub data_dir: PathBuf,
    /// Where the page is served from instead of what is built in.
    pub ui_dir: Option<PathBuf>,
    pub log_level: LevelFilter,
    /// `None` switches authentication off.
    pub runtime_api_key: Option<Secret>,
    pub session_secret: Option<Secret>,
    pub membridge_server_url: BaseUrl,
    pub membridge_admin_key: Option<Secret>,
    pub membridge_agent_key: Option<Secret>,
    /// `None` switches the sync of workers off.
    pub membridge_sync_seconds: Option<u32>,
    pub public_url: Option<BaseUrl>,
    /// Where artifacts go besides the embedded store.
    pub minio: Option<Minio>,
    /// What is said when S3 is set in part.
    minio_incomplete: Option<String>,
    pub database_url: Option<Secret>,
    /// `NODE_ENV=production`.
    pub production: bool,
    pub force_https: bool,
    /// Whose `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Vec<Network>,
    /// More host names of this server, in small letters.
    pub allowed_hosts: Vec<String>,
    /// Requests a minute of a caller without a valid key; 0 switches all rate limits off.
    pub rate_limit_per_minute: u32,
    /// Requests a minute of a caller with one; 0 means no limit.
    pub rate_limit_authenticated: u32,
    pub keeping: Keeping,
    /// How long what has finished rests in the hot file, before its artifacts can go to S3.
    pub archive_after_seconds: u32,
    pub file_limits: FileLimits,
    /// At most so many tasks of an agent are leased at a time.
    pub agent_limits: Vec<(String, u32)>,
    /// How the worker in this process runs Claude.
    pub agents: Agents,
    pub tls: TlsConfig,
    /// Names that lost to another form of the same setting.
    ignored: Vec<String>,
    /// All of it as it was read.
    pub values: Values,
}

impl Config {
    /// Reads the environment and the files that it or the flags name.
    ///
    /// # Errors
    /// As [`Config::load`], or the env file cannot be read.
    pub fn from_process(flags: &ServeFlags) -> Result<Config, ConfigError> {
        let env = sources::process_environment()?;
        let file = sources::read_env_file(flags.env_file.as_deref())?;
        let file = file.as_ref().map(|(path, text)| (path.as_path(), text.as_str()));
        Config::load(flags, file, &env, &sources::read_text)
    }

    /// The settings from the flags, the env file's path and text, the environment, and the files that
    /// `<NAME>_FILE` names, read by `read_file`.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn load(
        flags: &ServeFlags,
        file_text: Option<(&Path, &str)>,
        env: &BTreeMap<String, String>,
        read_file: ReadFile<'_>,
    ) -> Result<Config, ConfigError> {
        let sources = Sources::new(file_text, env, read_file)?;
        let runtime_api_key = sources.header_secret("RUNTIME_API_KEY")?;
        let is_on = |name| sources.parsed(name, "1", switch).map(Option::unwrap_or_default);
        let secret = |name| sources.secret(name).map(|found| found.map(|(secret, _)| secret));
        let s3 = s3::minio(&sources)?;
        Ok(Config {
            host: host(flags, &sources, runtime_api_key.is_some())?,
            port: port(flags, &sources)?,
            data_dir: data_dir(flags, &sources),
            ui_dir: flags.ui_dir.clone(),
            log_level: log_level(&sources)?,
            runtime_api_key,
            session_secret: secret("SESSION_SECRET")?,
            membridge_server_url: sources
                .parsed("MEMBRIDGE_SERVER_URL", "http://127.0.0.1:8000", url)?
                .unwrap_or_else(|| url("http://127.0.0.1:8000").expect("a constant that parses")),
            membridge_admin_key: sources.header_secret("MEMBRIDGE_ADMIN_KEY")?,
            membridge_agent_key: sources.header_secret("MEMBRIDGE_AGENT_KEY")?,
            membridge_sync_seconds: sources
                .parsed("MEMBRIDGE_SYNC_SECONDS", "10", |text| number(text, 86_400))?
                .or(Some(10))
                .filter(|seconds| *seconds > 0),
            public_url: sources.parsed("PUBLIC_URL", "https://bloom.example", url)?,
            minio: s3.minio,
            minio_incomplete: s3.incomplete,
            database_url: secret("DATABASE_URL")?,
            production: sources.value("NODE_ENV").is_some_and(|mode| mode.value == "production"),
            force_https: is_on("FORCE_HTTPS")?,
            trusted_proxies: sources
                .parsed("TRUSTED_PROXIES", "127.0.0.1,10.0.0.0/8", networks)?
                .unwrap_or_else(Network::loopback),
            allowed_hosts: sources
                .parsed("ALLOWED_HOSTS", "bloom.example,192.168.1.10", host_names)?
                .unwrap_or_default(),
            rate_limit_per_minute: sources
                .parsed("RATE_LIMIT_PER_MINUTE", "100", |text| number(text, 1_000_000))?
                .unwrap_or(100),
            rate_limit_authenticated: sources
                .parsed("RATE_LIMIT_AUTHENTICATED", "6000", |text| number(text, 1_000_000))?
                .unwrap_or(6000),
            keeping: Keeping::load(&sources)?,
            archive_after_seconds: sources
                .parsed("ARCHIVE_AFTER_SECONDS", "30", |text| number(text, 3_600))?
                .unwrap_or(30),
            file_limits: FileLimits::load(&sources)?,
            agent_limits: sources
                .parsed("AGENT_LIMITS", "reviewer=2,writer=1", agent_limits)?
                .unwrap_or_default(),
            agents: worker::agents(flags.agents.as_deref(), read_file)?,
            tls: TlsConfig::load(&sources)?,
            ignored: sources.ignored(),
            values: sources.into_values(),
        })
    }

    pub fn listen_address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }

    /// Whether a request that came over plain http is sent to https (CONTRACT §1).
    pub fn redirects_to_https(&self) -> bool {
        self.production || self.force_https
    }

    /// What the start says about settings that are missing, ignored or dangerous; one line each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        match (&self.runtime_api_key, self.host.is_loopback()) {
            (Some(_), _) => {}
            (None, true) => notes.push(
                "authentication is off, listening on loopback only; set RUNTIME_API_KEY and HOST \
                 to open it"
                    .to_owned(),
            ),
            (None, false) => notes.push(format!(
                "authentication is off and the server listens on {}: whoever reaches it can run \
                 tasks and read all results; set RUNTIME_API_KEY",
                self.host
            )),
        }
        notes.extend(self.keeping.notes());
        notes.extend(self.minio_incomplete.clone());
        notes.extend(self.minio.as_ref().map(|minio| {
            let Minio { endpoint, bucket, .. } = minio;
            format!("artifacts go to S3 at {endpoint}, bucket {bucket}; tasks never wait for it")
        }));
        let facts = [
            (
                self.public_url.is_none(),
                "tasks are not pushed to agents that wait to be called: PUBLIC_URL is not set, so they \
                 could not call back",
            ),
            (
                self.public_url.as_ref().is_some_and(|url| !url.is_https())
                    && self.tls.own.is_some(),
                "PUBLIC_URL begins with http://, but this server speaks https: agents could not call back",
            ),
            (
                self.public_url.is_some() && self.membridge_agent_key.is_none(),
                "MEMBRIDGE_AGENT_KEY is not set: agents that have a key will refuse pushed tasks",
            ),
            (
                self.public_url.is_some()
                    && self.membridge_agent_key.is_some()
                    && self.runtime_api_key.is_none()
                    && !self.host.is_loopback(),
                "whoever reaches the server can register as a worker and is then sent \
                 MEMBRIDGE_AGENT_KEY; set RUNTIME_API_KEY",
            ),
            (
                self.session_secret.is_some() && self.runtime_api_key.is_none(),
                "SESSION_SECRET is not used: without RUNTIME_API_KEY there is nothing to sign in to",
            ),
            (
                self.session_secret.as_ref().is_some_and(|secret| secret.expose().len() < 16),
                "SESSION_SECRET is short, so that sessions could be forged: leave it out, or use \
                 openssl rand -hex 32",
            ),
            (
                self.database_url.is_some(),
                "DATABASE_URL is ignored: replication is not in this build, the embedded store keeps \
                 everything",
            ),
            (
                self.rate_limit_per_minute == 0,
                "RATE_LIMIT_PER_MINUTE=0: rate limits are off, wrong keys can be tried without end",
            ),
            (
                self.trusted_proxies.iter().any(Network::is_everyone),
                "TRUSTED_PROXIES trusts everyone: any caller can choose its own address",
            ),
        ];
        notes.extend(facts.iter().filter(|(holds, _)| *holds).map(|(_, text)| (*text).to_owned()));
        notes.extend(self.tls.notes());
        notes.extend(self.ignored.iter().map(|name| {
            format!("{name} is ignored: {} is set too", name.trim_end_matches("_FILE"))
        }));
        notes
    }
}

fn host(flags: &ServeFlags, sources: &Sources, has_key: bool) -> Result<IpAddr, ConfigError> {
    let found = match &flags.host {
        Some(value) => Some(from_flag(value, "--host")),
        None => sources.value("HOST"),
    };
    let Some(Found { value, subject }) = found else {
        let open = if has_key { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        return Ok(IpAddr::V4(open));
    };
    if value.eq_ignore_ascii_case("localhost") {
        return Ok(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let bare = value.strip_prefix('[').and_then(|v| v.strip_suffix(']')).unwrap_or(&value);
    bare.parse().map_err(|_| {
        let fault = format!("{} is not an IP address", shown(&value));
        let example = example_like(&subject, "HOST", "--host", "0.0.0.0");
        ConfigError::new(subject, fault, example)
    })
}

fn port(flags: &ServeFlags, sources: &Sources) -> Result<u16, ConfigError> {
    let found = match &flags.port {
        Some(value) => Some(from_flag(value, "--port")),
        None => sources.value("PORT").or_else(|| sources.value("BLOOM_RUNTIME_PORT")),
    };
    let Some(Found { value, subject }) = found else { return Ok(5000) };
    // 65,535 fits: `number` refuses all that does not.
    number(&value, u32::from(u16::MAX)).map(|port| port as u16).map_err(|fault| {
        let name = subject.split(' ').next().unwrap_or("PORT");
        let example = example_like(&subject, name, "--port", "5000");
        ConfigError::new(subject.as_str(), fault, example)
    })
}

fn data_dir(flags: &ServeFlags, sources: &Sources) -> PathBuf {
    let from_sources = || sources.value("DATA_DIR").map(|found| PathBuf::from(found.value));
    flags.data_dir.clone().or_else(from_sources).unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_DIR))
}

fn log_level(sources: &Sources) -> Result<LevelFilter, ConfigError> {
    let level = sources.parsed("LOG_LEVEL", "info", |text| {
        text.parse::<LevelFilter>()
            .map_err(|_| format!("{} is none of off, error, warn, info, debug, trace", shown(text)))
    })?;
    Ok(level.unwrap_or(LevelFilter::Info))
}

fn from_flag(value: &str, flag: &str) -> Found {
    Found { value: value.trim().to_owned(), subject: flag.to_owned() }
}

/// An example in the form in which the faulty value was given.
fn example_like(subject: &str, name: &str, flag: &str, value: &str) -> String {
    if subject == flag { format!("{flag} {value}") } else { format!("{name}={value}") }
}

fn url(text: &str) -> Result<BaseUrl, String> {
    parse_base_url(text).map_err(|fault| fault.to_string())
}

fn number(text: &str, max: u32) -> Result<u32, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(n) if digits && n <= max => Ok(n),
        _ => Err(format!("{} is not a number from 0 to {max}", shown(text))),
    }
}

fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(format!("{} is neither 1 nor 0 (nor true or false)", shown(text))),
    }
}

/// The words of a list that commas or blanks separate.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ', '\t']).filter(|word| !word.is_empty())
}

/// `slug=n` for each agent, separated by commas; a blank may stand in a slug.
fn agent_limits(text: &str) -> Result<Vec<(String, u32)>, String> {
    let mut limits: Vec<(String, u32)> = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let limit = word.rsplit_once('=').and_then(|(agent, most)| {
            let most =
                most.trim().parse().ok().filter(|most| (1..=AGENT_LIMIT_MAX).contains(most))?;
            Some((agent.trim().to_owned(), most)).filter(|(agent, _)| !agent.is_empty())
        });
        let Some((agent, most)) = limit else {
            return Err(format!(
                "{} is no agent=number with a number from 1 to {AGENT_LIMIT_MAX}",
                shown(word)
            ));
        };
        if limits.iter().any(|(known, _)| *known == agent) {
            return Err(format!("{} stands there twice", shown(&agent)));
        }
        limits.push((agent, most));
    }
    match limits.len() {
        0..=AGENT_LIMITS_MAX => Ok(limits),
        n => Err(format!("{n} agents are more than {AGENT_LIMITS_MAX}")),
    }
}

/// `none` trusts nobody, loopback included.
fn networks(text: &str) -> Result<Vec<Network>, String> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(Vec::new());
    }
    words(text)
        .map(|word| {
            Network::parse(word)
                .ok_or_else(|| format!("{} is neither an IP address nor a range", shown(word)))
        })
        .collect()
}

fn host_names(text: &str) -> Result<Vec<String>, String> {
    words(text)
        .map(|word| {
            let bare = word.strip_prefix('[').and_then(|w| w.strip_suffix(']')).unwrap_or(word);
            match is_host_name(bare) || bare.parse::<IpAddr>().is_ok() {
                true => Ok(bare.to_ascii_lowercase()),
                false => Err(format!("{} is no host name (without scheme and port)", shown(word))),
            }
        })
        .collect()
}
