//! The signals that ask the process for something.
//!
//! Must stay true: one that comes while nobody waits is not lost; a terminal that closes ends what runs
//! in it, as for any other program. Not here: what a stop or a reload does.

use std::io::{self, IsTerminal};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What asks the process to end.
pub struct Signals(Vec<Signal>);

impl Signals {
    /// SIGTERM and SIGINT, and SIGHUP where a terminal sends it.
    pub fn listen() -> Signals {
        let mut kinds = vec![SignalKind::terminate(), SignalKind::interrupt()];
        kinds.extend(on_a_terminal().then(SignalKind::hangup));
        let heard: Result<_, _> = kinds.into_iter().map(signal).collect();
        Signals(heard.unwrap_or_else(|error| {
            log::error!("signals cannot be heard ({error}); only SIGKILL will stop this process");
            Vec::new()
        }))
    }

    pub async fn next(&mut self) {
        std::future::poll_fn(|context| {
            let asked = self.0.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if asked { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }
}

/// SIGHUP where a supervisor sends it.
pub fn hangups() -> Option<Signal> {
    if on_a_terminal() {
        return None;
    }
    signal(SignalKind::hangup()).inspect_err(|error| log::error!("no reload: {error}")).ok()
}

fn on_a_terminal() -> bool {
    io::stderr().is_terminal()
}
