//! The sockets that a server listens on, and the certificate that it shows there.
//!
//! Must stay true: a port that is taken and a certificate that cannot be used are one line each, before
//! anything is served; SIGHUP reads the certificate again, and a bad one changes nothing. Not here: what
//! goes over the connections (`server`).

use super::{Failure, exit, internal, say, unusable};
use crate::api;
use crate::clock::Clock;
use crate::config::{Config, OwnCertificate};
use crate::server::Door;
use crate::tls::{Identity, self_signed};
use std::io;
use std::net::{self, IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Connections that the kernel holds until they are accepted.
const NEWCOMERS_WAITING: i32 = 4_096;
/// How often the certificate's end is looked at.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(86_400);

/// The ports, taken but silent yet.
pub struct Doors {
    main: net::TcpListener,
    to_https: Option<net::TcpListener>,
    /// None: this server speaks plain http.
    pub identity: Option<Arc<Identity>>,
}

/// The ports with what stands behind them, the main one first.
pub struct Listening {
    pub doors: Vec<(TcpListener, Door)>,
    pub address: SocketAddr,
    pub to_https: Option<SocketAddr>,
}

impl Doors {
    pub fn open(config: &Config) -> Result<Doors, Failure> {
        let identity = given_identity(config)?.map(Arc::new);
        let main = listen(config.listen_address(), "--port or PORT")?;
        let to_https = config.tls.http_port.map(|port| {
            let address = SocketAddr::new(config.host, port);
            listen(address, "HTTP_PORT")
        });
        Ok(Doors { main, to_https: to_https.transpose()?, identity })
    }

    /// Makes or reads the self-signed certificate, if that is what is wanted; the data directory is ours.
    pub fn make_certificate(&mut self, config: &Config) -> Result<(), Failure> {
        if config.tls.own != Some(OwnCertificate::SelfSigned) {
            return Ok(());
        }
        let names = own_names(config);
        let store = |line| Failure { line, code: exit::STORE };
        if self_signed::ensure(&config.data_dir, &names).map_err(store)? {
            say("a self-signed certificate was made for this machine's names and addresses");
        }
        let identity = Identity::read(self_signed::files(&config.data_dir)).map_err(unusable)?;
        let lacking = identity.lacks(&names);
        if !lacking.is_empty() {
            say(format!(
                "the self-signed certificate is older than some names of this machine ({}); who pins it \
                 does not mind, for others remove {} and start again",
                lacking.join(", "),
                config.data_dir.join("tls").display()
            ));
        }
        self.identity = Some(Arc::new(identity));
        Ok(())
    }

    /// The same as tokio knows it.
    pub fn listening(self) -> Result<Listening, Failure> {
        let failed = |error| internal(format!("the listening socket failed: {error}"));
        let open = |listener: net::TcpListener| {
            let listener = TcpListener::from_std(listener).map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            Ok::<_, Failure>((listener, address))
        };
        let (main, address) = open(self.main)?;
        let door = self
            .identity
            .as_ref()
            .map_or(Door::Plain, |identity| Door::Tls(identity.server_config()));
        let mut doors = vec![(main, door)];
        let to_https = self.to_https.map(open).transpose()?;
        let to_https = to_https.map(|(listener, from)| {
            doors.push((listener, Door::Redirect(address.port())));
            from
        });
        Ok(Listening { doors, address, to_https })
    }
}

impl Listening {
    fn scheme(&self) -> &'static str {
        if matches!(self.doors[0].1, Door::Tls(_)) { "https" } else { "http" }
    }

    /// What a person is told, one line each.
    pub fn lines(&self) -> Vec<String> {
        let (scheme, address) = (self.scheme(), self.address);
        // Nobody opens the address that stands for all of them.
        let here = match address.ip().is_unspecified() {
            true => format!(
                " (every address of this machine; here {scheme}://127.0.0.1:{})",
                address.port()
            ),
            false => String::new(),
        };
        let from = self.to_https.map(|from| format!("http://{from} leads to https"));
        from.into_iter().chain([format!("listening on {scheme}://{address}{here}")]).collect()
    }

    /// Where a worker on this machine finds the server.
    pub fn url_from_here(&self) -> String {
        url_from_here(self.scheme(), self.address)
    }
}

/// Where this machine itself reaches what listens on `address`.
pub fn url_from_here(scheme: &str, address: SocketAddr) -> String {
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("{scheme}://{}", SocketAddr::new(host, address.port()))
}

/// What `check` and a start say about TLS, warnings too.
pub fn description(config: &Config, clock: &dyn Clock) -> Result<Vec<String>, Failure> {
    let identity = match &config.tls.own {
        None => return Ok(Vec::new()),
        Some(OwnCertificate::Files(_)) => given_identity(config)?,
        Some(OwnCertificate::SelfSigned) => {
            let files = self_signed::files(&config.data_dir);
            let is_there = files.certificate.exists();
            is_there.then(|| Identity::read(files)).transpose().map_err(unusable)?
        }
    };
    let Some(identity) = identity else {
        return Ok(vec!["certificate: self-signed, will be made at the first start".into()]);
    };
    let worry = identity.worry(seconds(clock));
    Ok([identity.description()].into_iter().chain(worry).collect())
}

fn given_identity(config: &Config) -> Result<Option<Identity>, Failure> {
    match &config.tls.own {
        Some(OwnCertificate::Files(files)) => {
            let fault = |fault| unusable(format!("TLS_CERT, TLS_KEY: {fault}"));
            Identity::read(files.clone()).map(Some).map_err(fault)
        }
        _ => Ok(None),
    }
}

/// The names and addresses that others may know this server by.
fn own_names(config: &Config) -> Vec<String> {
    let mut names = api::own_names(config);
    if !config.host.is_unspecified() {
        names.push(config.host.to_string());
    }
    self_signed::names(&names)
}

/// Reads the certificate again at SIGHUP, and warns before it ends.
pub struct Keeper {
    identity: Arc<Identity>,
    hangups: Option<Signal>,
}

impl Keeper {
    /// From now on SIGHUP no longer ends the process.
    pub fn new(identity: Arc<Identity>) -> Keeper {
        let hangups = signal(SignalKind::hangup()).ok();
        if hangups.is_none() {
            log::error!("SIGHUP cannot be heard; a new certificate needs a restart");
        }
        Keeper { identity, hangups }
    }

    /// Until the stop; warns after each reading, and daily.
    pub async fn run(mut self, clock: Arc<dyn Clock>, mut stopping: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => return,
                Some(()) = hung_up(&mut self.hangups) => self.read_again(seconds(&*clock)),
                () = tokio::time::sleep(LOOKED_AT_EVERY) => {}
            }
            if let Some(worry) = self.identity.worry(seconds(&*clock)) {
                log::warn!("{worry}");
            }
        }
    }

    fn read_again(&self, now: u64) {
        match self.identity.read_again(now) {
            Ok(true) => log::info!("new {}", self.identity.description()),
            Ok(false) => log::info!("the same {}", self.identity.description()),
            Err(fault) => log::error!("the certificate stays as it was: {fault}"),
        }
    }
}

fn seconds(clock: &dyn Clock) -> u64 {
    u64::try_from(clock.now().wall / 1000).unwrap_or_default()
}

async fn hung_up(hangups: &mut Option<Signal>) -> Option<()> {
    match hangups {
        Some(hangups) => hangups.recv().await,
        None => std::future::pending().await,
    }
}

fn listen(address: SocketAddr, setting: &str) -> Result<net::TcpListener, Failure> {
    let listening = net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        // The standard library asks for 128; a flood of newcomers would fill that, and an honest one
        // among them would try again after a second only.
        rustix::net::listen(&listener, NEWCOMERS_WAITING)?;
        Ok(listener)
    });
    listening.map_err(|error| Failure {
        line: cannot_listen(address, setting, &error),
        code: exit::PORT_IN_USE,
    })
}

fn cannot_listen(address: SocketAddr, setting: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "port {} is in use on {}; stop what uses it, or choose another with {setting}",
            address.port(),
            address.ip()
        ),
        _ => format!(
            "cannot listen on {address}: {error}; choose another with --host or HOST and {setting}"
        ),
    }
}
