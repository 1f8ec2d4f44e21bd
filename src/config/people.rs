//! The settings of a person's commands: which server, which key, and whether colour is wanted.
//!
//! The address: `--server`, `BLOOM_SERVER` of the environment, `BLOOM_SERVER` of the person's own file
//! (`~/.config/bloom-runtime.env`, the grammar of [`super::env_file`]), else this machine's own server. The
//! key: the environment, the person's file, and on the server's own host its `/etc/bloom-runtime.env`.
//! Must stay true: a key from a file goes to the server that the file is about and to no other; the key
//! is never a flag. Not here: what is asked of the server.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, shown};
use super::sources::{self, DEFAULT_ENV_FILE, ReadFile, Sources};
use super::{BaseUrl, Believed, DEFAULT_DATA_DIR, Secret, is_host_name, parse_base_url, switch};
use crate::cli::people::Place;
use crate::tls::{Fingerprint, self_signed};

/// Below the home directory.
const OWN_FILE: &str = ".config/bloom-runtime.env";

/// What a person's command has to know. No `Debug`: it holds the key (P10).
pub struct PeopleConfig {
    pub server: BaseUrl,
    pub believed: Believed,
    pub key: Option<Secret>,
    /// Where the key comes from, or where one was looked for, in words that follow "the key".
    pub key_source: String,
    /// What the person should mend, one line each.
    pub warnings: Vec<String>,
    /// Neither `NO_COLOR` nor a terminal that knows none.
    pub colour: bool,
}

/// A settings file and what became of reading it.
pub struct EnvFile {
    pub path: PathBuf,
    /// `None` when it is not there.
    pub text: Option<io::Result<String>>,
    /// Others than its owner may read it.
    pub open_to_others: bool,
}

impl EnvFile {
    fn read(path: PathBuf) -> EnvFile {
        let text = match sources::read_text(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(other),
        };
        let mode = std::fs::metadata(&path).map_or(0, |meta| meta.permissions().mode());
        EnvFile { path, text, open_to_others: mode & 0o044 != 0 }
    }

    fn name(&self) -> String {
        shown(&self.path.to_string_lossy()).trim_matches('"').to_owned()
    }

    /// The path and the text, when the file could be read.
    fn contents(&self) -> Option<(&Path, &str)> {
        let text = self.text.as_ref()?.as_ref().ok()?;
        Some((&self.path, text))
    }

    /// Why nothing of it counts.
    fn silence(&self) -> String {
        match &self.text {
            None => format!("{} is not there", self.name()),
            Some(Err(error)) => format!("{} cannot be read: {error}", self.name()),
            Some(Ok(_)) => format!("{} has none for this server", self.name()),
        }
    }
}

impl PeopleConfig {
    /// Reads the environment and both files.
    ///
    /// # Errors
    /// As [`PeopleConfig::load`].
    pub fn from_process(place: Place<'_>) -> Result<PeopleConfig, ConfigError> {
        let env = sources::process_environment()?;
        let in_config = sources::variable("XDG_CONFIG_HOME").map(PathBuf::from);
        let in_config = in_config.filter(|dir| dir.is_absolute());
        let in_home = sources::variable("HOME").map(|home| Path::new(&home).join(OWN_FILE));
        let own = in_config.map(|dir| dir.join("bloom-runtime.env")).or(in_home);
        let own = own.map(EnvFile::read);
        let system = EnvFile::read(DEFAULT_ENV_FILE.into());
        let mut config =
            PeopleConfig::load(place, &env, own.as_ref(), &system, &sources::read_text)?;
        let dumb = sources::variable("TERM").is_none_or(|term| term == "dumb");
        config.colour = !dumb && sources::variable("NO_COLOR").is_none();
        Ok(config)
    }

    /// The settings from the flags, the environment, the person's file and the server's own on this
    /// machine; `read_file` reads the files that `RUNTIME_API_KEY_FILE` names.
    ///
    /// # Errors
    /// A value that cannot be used, or a broken line of the person's file. The server's file is a
    /// convenience here: what is wrong with it only means that nothing of it counts.
    pub fn load(
        place: Place<'_>,
        env: &BTreeMap<String, String>,
        own: Option<&EnvFile>,
        system: &EnvFile,
        read_file: ReadFile<'_>,
    ) -> Result<PeopleConfig, ConfigError> {
        let nothing = BTreeMap::new();
        let of_env = Sources::new(None, env, read_file)?;
        let own_contents = own.and_then(EnvFile::contents);
        let of_own = Sources::new(own_contents, &nothing, read_file)?;
        let of_system = Sources::new(system.contents(), &nothing, read_file).ok();
        let local = local_server(of_system.as_ref());
        let named_by_own = match of_own.value("BLOOM_SERVER") {
            Some(found) => Some(address(&found.value, &found.subject)?),
            None => None,
        };
        let server = match (place.server, of_env.value("BLOOM_SERVER"), &named_by_own) {
            (Some(flag), ..) => address(flag, "--server")?,
            (None, Some(found), _) => address(&found.value, &found.subject)?,
            (None, None, Some(named)) => named.clone(),
            (None, None, None) => local.clone(),
        };
        let about_server = named_by_own.as_ref().is_none_or(|named| *named == server);
        let mut told = vec![&of_env];
        told.extend(about_server.then_some(&of_own));
        let mut believed = Believed::load(place.ca, place.pin, &told)?;
        let is_unsaid = server.is_https() && believed == Believed::default();
        if is_unsaid && is_same_machine(&server, &local) {
            believed.pin = of_system.as_ref().and_then(|system| local_pin(system, read_file));
        }
        let mut config = PeopleConfig {
            believed,
            key: None,
            key_source: String::new(),
            warnings: Vec::new(),
            colour: false,
            server,
        };
        let mut key = of_env.placed_header_secret("RUNTIME_API_KEY")?;
        if key.is_none() && about_server {
            key = of_own.placed_header_secret("RUNTIME_API_KEY")?;
            if let (Some(_), Some(own)) = (&key, own.filter(|own| own.open_to_others)) {
                let name = own.name();
                config.warnings.push(format!(
                    "{name} holds a key and can be read by others; close it: chmod 600 {name}"
                ));
            }
        }
        if key.is_none() && is_same_machine(&config.server, &local) {
            let found = of_system.map(|system| system.placed_header_secret("RUNTIME_API_KEY"));
            key = found.and_then(Result::ok).flatten();
        }
        config.key_source = match &key {
            Some((_, subject)) => format!("from {subject}"),
            None => sought(own, about_server, system, is_same_machine(&config.server, &local)),
        };
        config.key = key.map(|(secret, _)| secret);
        Ok(config)
    }
}

/// Where a key was looked for, when none was found.
fn sought(own: Option<&EnvFile>, about_server: bool, system: &EnvFile, local: bool) -> String {
    let mut places = vec!["RUNTIME_API_KEY is not set".to_owned()];
    places.extend(own.map(|own| match about_server {
        true => own.silence(),
        false => format!("that of {} is for another server", own.name()),
    }));
    places.extend(local.then(|| system.silence()));
    format!("was looked for and not found: {}", places.join(", "))
}

/// A bare `host:port` is meant as http.
fn address(text: &str, subject: &str) -> Result<BaseUrl, ConfigError> {
    let text = text.trim();
    let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    parse_base_url(&url).map_err(|fault| {
        let flag = subject == "--server";
        let example =
            if flag { "--server http://desk:5000" } else { "BLOOM_SERVER=http://desk:5000" };
        ConfigError::new(subject, fault.to_string(), example)
    })
}

/// Where the server of this machine listens, as far as its own settings tell.
fn local_server(system: Option<&Sources<'_>>) -> BaseUrl {
    let value = |name| system.and_then(|system| system.value(name)).map(|found| found.value);
    let port = value("PORT").or_else(|| value("BLOOM_RUNTIME_PORT"));
    let port = port.and_then(|port| port.parse().ok()).filter(|port: &u16| *port > 0);
    let everywhere = |host: &String| ["0.0.0.0", "localhost"].contains(&host.as_str());
    let host = value("HOST").filter(|host| is_host_name(host) && !everywhere(host));
    let host = host.as_deref().unwrap_or("127.0.0.1");
    let is_on = |name| value(name).is_some_and(|value| switch(&value) == Ok(true));
    let has_tls = value("TLS_CERT").is_some() || is_on("TLS_SELF_SIGNED");
    let scheme = if has_tls { "https" } else { "http" };
    let url = format!("{scheme}://{host}:{}", port.unwrap_or(5000));
    parse_base_url(&url).expect("a checked host and a port")
}

/// The certificate of this machine's server, as far as its file can be read.
fn local_pin(system: &Sources<'_>, read_file: ReadFile<'_>) -> Option<Fingerprint> {
    let path = |name| system.value(name).map(|found| PathBuf::from(found.value));
    let given = path("TLS_CERT");
    let made = || self_signed::public_copy(&path("DATA_DIR").unwrap_or(DEFAULT_DATA_DIR.into()));
    let pem = read_file(&given.unwrap_or_else(made)).ok()?;
    Fingerprint::of_first(pem.as_bytes())
}

fn is_same_machine(server: &BaseUrl, local: &BaseUrl) -> bool {
    let numbered = server.as_str().replacen("://localhost:", "://127.0.0.1:", 1);
    numbered == local.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> EnvFile {
        EnvFile { path: path.into(), text: Some(Ok(text.into())), open_to_others: false }
    }

    fn absent() -> EnvFile {
        EnvFile { path: DEFAULT_ENV_FILE.into(), text: None, open_to_others: false }
    }

    fn load(
        flag: Option<&str>,
        env: &[(&str, &str)],
        own: &str,
        system: &EnvFile,
    ) -> Result<PeopleConfig, ConfigError> {
        let env = env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let own = file("/home/p/.config/bloom-runtime.env", own);
        let place = Place { server: flag, ..Place::default() };
        PeopleConfig::load(place, &env, Some(&own), system, &|_| panic!("no file is named"))
    }

    fn key(config: &PeopleConfig) -> Option<&str> {
        config.key.as_ref().map(Secret::expose)
    }

    #[test]
    fn the_nearest_source_names_the_server() {
        let own = "BLOOM_SERVER=http://own:1";
        let server = |flag, env: &[(&str, &str)], own, system: &EnvFile| {
            load(flag, env, own, system).unwrap().server.as_str().to_owned()
        };
        let env = [("BLOOM_SERVER", "env:2")];
        assert_eq!(server(Some("flag:3"), &env, own, &absent()), "http://flag:3");
        assert_eq!(server(None, &env, own, &absent()), "http://env:2");
        assert_eq!(server(None, &[], own, &absent()), "http://own:1");
        assert_eq!(server(None, &[], "", &absent()), "http://127.0.0.1:5000");
        let system = file(DEFAULT_ENV_FILE, "HOST=192.168.1.10\nPORT=6000");
        assert_eq!(server(None, &[], "", &system), "http://192.168.1.10:6000");
        let system = file(DEFAULT_ENV_FILE, "HOST=0.0.0.0\nBLOOM_RUNTIME_PORT=6001");
        assert_eq!(server(None, &[], "", &system), "http://127.0.0.1:6001");
    }

    #[test]
    fn a_key_from_a_file_goes_to_the_server_of_that_file_alone() {
        let own = "BLOOM_SERVER=http://own:1\nRUNTIME_API_KEY=own-key";
        let system = file(DEFAULT_ENV_FILE, "RUNTIME_API_KEY=system-key");
        assert_eq!(key(&load(None, &[], own, &system).unwrap()), Some("own-key"));
        let elsewhere = load(Some("http://other:1"), &[], own, &system).unwrap();
        assert_eq!(key(&elsewhere), None);
        assert!(elsewhere.key_source.contains("is for another server"), "{}", elsewhere.key_source);
        assert_eq!(key(&load(Some("http://other:1"), &[], "", &system).unwrap()), None);
        for here in ["http://localhost:5000", "127.0.0.1:5000/"] {
            assert_eq!(key(&load(Some(here), &[], own, &system).unwrap()), Some("system-key"));
        }
        let other_port = load(Some("http://127.0.0.1:6000"), &[], "", &system).unwrap();
        assert_eq!(key(&other_port), None);
        let env = [("RUNTIME_API_KEY", "env-key")];
        let config = load(Some("http://other:1"), &env, own, &system).unwrap();
        assert_eq!(
            (key(&config), config.key_source.as_str()),
            (Some("env-key"), "from RUNTIME_API_KEY")
        );
    }

    #[test]
    fn the_server_of_this_machine_is_known_by_its_own_certificate() {
        let text = "TLS_SELF_SIGNED=1\nDATA_DIR=/data\nRUNTIME_API_KEY=system-key";
        let system = file(DEFAULT_ENV_FILE, text);
        let read = |path: &Path| match path.to_str() {
            Some("/data/tls/certificate.pem") => {
                Ok("-----BEGIN CERTIFICATE-----\neA==\n-----END CERTIFICATE-----\n".to_owned())
            }
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let load = |place| PeopleConfig::load(place, &BTreeMap::new(), None, &system, &read);
        let local = load(Place::default()).unwrap();
        assert_eq!(local.server.as_str(), "https://127.0.0.1:5000");
        assert_eq!(local.believed.pin, Some(Fingerprint::of(b"x")));
        assert_eq!(key(&local), Some("system-key"));
        let other = Place { server: Some("https://desk:5000"), ..Place::default() };
        assert_eq!(load(other).unwrap().believed, Believed::default());
        let told = Place { ca: Some(Path::new("/ca.pem")), ..Place::default() };
        assert_eq!(load(told).unwrap().believed.pin, None);
    }

    #[test]
    fn a_key_that_others_can_read_is_used_with_a_warning() {
        let mut own = file("/home/p/.config/bloom-runtime.env", "RUNTIME_API_KEY=k");
        own.open_to_others = true;
        let env = BTreeMap::new();
        let config =
            PeopleConfig::load(Place::default(), &env, Some(&own), &absent(), &|_| panic!())
                .unwrap();
        assert_eq!(key(&config), Some("k"));
        assert!(config.warnings[0].contains("chmod 600 /home/p/.config"), "{:?}", config.warnings);
        let env = BTreeMap::from([("RUNTIME_API_KEY".to_owned(), "e".to_owned())]);
        let config =
            PeopleConfig::load(Place::default(), &env, Some(&own), &absent(), &|_| panic!())
                .unwrap();
        assert_eq!(config.warnings, [""; 0]);
    }

    #[test]
    fn who_finds_no_key_is_told_where_it_was_looked_for() {
        let locked = io::Error::from(io::ErrorKind::PermissionDenied);
        let system = EnvFile { text: Some(Err(locked)), ..absent() };
        let source = load(None, &[], "", &system).unwrap().key_source;
        assert!(source.contains("RUNTIME_API_KEY is not set"), "{source}");
        assert!(source.contains("/home/p/.config/bloom-runtime.env has none"), "{source}");
        assert!(source.contains("/etc/bloom-runtime.env cannot be read"), "{source}");
    }

    #[test]
    fn a_fault_of_ones_own_file_is_told_and_one_of_the_servers_file_is_not() {
        let broken = file(DEFAULT_ENV_FILE, "nonsense");
        assert!(load(None, &[], "", &broken).is_ok());
        let error = load(None, &[], "nonsense", &absent()).err().unwrap().to_string();
        assert!(error.starts_with("/home/p/.config/bloom-runtime.env:1: "), "{error}");
        let error = load(Some("ftp://h"), &[], "", &absent()).err().unwrap().to_string();
        assert!(error.starts_with("--server: ") && error.contains("--server http://"), "{error}");
    }
}
