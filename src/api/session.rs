//! Signing in and out: the API key in exchange for a session, and whether a request shows either.
//!
//! Must stay true: neither key nor cookie is in any log, audit entry or error (P10); what signs out is
//! ended at once, and answered when that is on disk (P1); wrong keys are slowed by source. A session
//! counts as the key everywhere, but it changes nothing for another site's page. Not here: the
//! signature (`http::session`).

use super::host::named_host;
use super::{API_KEY, App, Call};
use crate::clock::Mono;
use crate::config::{Config, Secret};
use crate::domain::{Audit, Entity, EventKind, Sessions};
use crate::engine::{ConfigChange, Engine, EngineError, system_random};
use crate::http::answer::{Answer, json, with_header};
use crate::http::error::ApiError;
use crate::http::rate_limit::Class;
use crate::http::session::{Session, Signer, Site, cookie, cookies, no_cookie, site};
use crate::wire;
use hyper::header::{HeaderMap, SET_COOKIE};
use hyper::{Method, StatusCode, Uri};
use serde_json::json;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What a request showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Nothing,
    WrongKey,
    Key,
    Session,
}

impl Shown {
    pub(super) fn class(self) -> Class {
        match self {
            Shown::Nothing => Class::Open,
            Shown::WrongKey => Class::Wrong,
            Shown::Key | Shown::Session => Class::Authenticated,
        }
    }
}

/// Everything about the sessions of a server that has a key.
pub struct SignIns {
    signer: Signer,
    record: Mutex<Sessions>,
    /// Records reach the disk in the order in which they were made.
    saving: tokio::sync::Mutex<()>,
    /// A session has ended that the disk does not know of: it refused.
    unsaved: AtomicBool,
}

impl SignIns {
    /// None without a key: there is nothing to sign in to.
    ///
    /// # Errors
    /// The record cannot be read.
    pub async fn open(config: &Config, engine: &Engine) -> Result<Option<Arc<Self>>, EngineError> {
        let Some(key) = &config.runtime_api_key else { return Ok(None) };
        let mut record = engine.query().sessions()?;
        let secret = match (&config.session_secret, &record.secret) {
            (Some(set), _) => set.clone(),
            (None, Some(made)) => Secret::new(made),
            (None, None) => {
                let mut random = system_random();
                let made = format!("{:032x}{:032x}", random(), random());
                record.secret = Some(made.clone());
                if let Err(error) = engine.keep_sessions(record.clone(), None).await {
                    log::warn!("sessions will end with this process, no secret was kept: {error}");
                }
                Secret::new(made)
            }
        };
        Ok(Some(Arc::new(SignIns {
            signer: Signer::new(secret.expose(), key.expose()),
            record: Mutex::new(record),
            saving: tokio::sync::Mutex::default(),
            unsaved: AtomicBool::new(false),
        })))
    }

    /// The session that a request carries, if it is good.
    fn session(&self, headers: &HeaderMap, now: i64) -> Option<Session> {
        let mut signed = cookies(headers).filter_map(|value| self.signer.read(value, now));
        signed.find(|session| !self.has_ended(session))
    }

    /// The session that is to be ended: also one whose end has not reached the disk.
    fn to_end(&self, headers: &HeaderMap, now: i64) -> Option<Session> {
        let mut signed = cookies(headers).filter_map(|value| self.signer.read(value, now));
        signed.find(|session| !self.has_ended(session) || self.unsaved.load(Ordering::Relaxed))
    }

    fn has_ended(&self, session: &Session) -> bool {
        let record = self.record.lock().expect("no holder panics");
        record.has_ended(&session.id, session.ends_at)
    }

    /// Ends a session at once, and then on disk.
    async fn end(&self, engine: &Engine, session: Session) -> Result<(), EngineError> {
        let _turn = self.saving.lock().await;
        let audit = audit(&session, "Signed out".into());
        let record = {
            let mut record = self.record.lock().expect("no holder panics");
            record.end(session.id, session.ends_at);
            record.clone()
        };
        let saved = engine.keep_sessions(record, Some(audit)).await;
        self.unsaved.store(saved.is_err(), Ordering::Relaxed);
        saved
    }
}

fn audit(session: &Session, detail: String) -> Audit {
    let (entity, entity_id) = (Entity::Session, session.name());
    Audit { entity, entity_id, actor: "admin".into(), detail }
}

impl App {
    pub(super) fn shown(&self, headers: &HeaderMap) -> Shown {
        match (&self.key, headers.get(API_KEY)) {
            (Some(key), Some(given)) if key.matches(given.as_bytes()) => Shown::Key,
            (Some(_), Some(_)) => Shown::WrongKey,
            _ if self.session_of(headers).is_some() => Shown::Session,
            _ => Shown::Nothing,
        }
    }

    fn session_of(&self, headers: &HeaderMap) -> Option<Session> {
        self.sign_ins.as_ref()?.session(headers, self.clock.now().wall)
    }

    /// A page of another site may make a browser send things here, with our cookie or without one.
    pub(super) fn check_site(
        &self,
        shown: Shown,
        method: &Method,
        headers: &HeaderMap,
        uri: &Uri,
    ) -> Result<(), ApiError> {
        let only_reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        if only_reads || matches!(shown, Shown::Key | Shown::WrongKey) {
            return Ok(());
        }
        match (site(headers, named_host(headers, uri)), shown) {
            (Site::Own, _) | (Site::Unknown, Shown::Nothing) => Ok(()),
            (Site::Other, _) | (Site::Unknown, _) => {
                let text = "This call does not come from the server's own page";
                Err(ApiError::new(StatusCode::FORBIDDEN, "cross_site", text))
            }
        }
    }

    pub(super) fn session(&self, call: &Call) -> Result<Answer, ApiError> {
        let session = self.session_of(&call.headers);
        let with_key = self.shown(&call.headers) == Shown::Key;
        Ok(self.session_state(session.as_ref(), with_key))
    }

    fn session_state(&self, session: Option<&Session>, with_key: bool) -> Answer {
        let body = json!({
            "required": self.sign_ins.is_some(),
            "signed_in": session.is_some() || with_key,
            "expires_at": session.map(|session| session.ends_at),
        });
        json(StatusCode::OK, &body)
    }

    pub(super) async fn sign_in(&self, call: &Call) -> Result<Answer, ApiError> {
        let given = wire::sign_in(&call.payload)?;
        let (Some(sign_ins), Some(key)) = (&self.sign_ins, &self.key) else {
            return Ok(self.session_state(None, false));
        };
        let now = self.clock.now();
        self.check_sign_ins(call.client, now.mono)?;
        if !key.matches(given.as_bytes()) {
            let mut limiter = self.limiter.lock().expect("no holder panics");
            limiter.count(Class::SignIn, call.client, now.mono);
            let text = "This is not the key of this server";
            return Err(ApiError::new(StatusCode::UNAUTHORIZED, "wrong_key", text));
        }
        let (value, session) = sign_ins.signer.issue(system_random()(), now.wall);
        let audit = audit(&session, format!("Signed in from {}", call.client));
        let told = ConfigChange { settings: None, kind: EventKind::SignedIn, audit };
        match self.engine.configure(told).await {
            // Whoever wants to see what is wrong with the disk must be able to look.
            Err(EngineError::NotWritten { why, .. }) => {
                log::warn!("session {} is not in the audit trail: {why:?}", session.name());
            }
            other => other?,
        }
        let answer = self.session_state(Some(&session), false);
        Ok(with_header(answer, SET_COOKIE, &cookie(&value, call.secure)))
    }

    /// Who guesses has to wait; nothing tells whether the guess was right.
    fn check_sign_ins(&self, client: IpAddr, now: Mono) -> Result<(), ApiError> {
        let limiter = self.limiter.lock().expect("no holder panics");
        match limiter.sign_in_wait_seconds(client, now) {
            Some(seconds) => Err(ApiError::too_many_requests(seconds)),
            None => Ok(()),
        }
    }

    pub(super) async fn sign_out(&self, call: &Call) -> Result<Answer, ApiError> {
        let now = self.clock.now().wall;
        let own = self.sign_ins.as_ref();
        let found = own.and_then(|own| Some((own, own.to_end(&call.headers, now)?)));
        if let Some((sign_ins, session)) = found {
            let (sign_ins, engine) = (sign_ins.clone(), self.engine.clone());
            // To its end, also when the caller hangs up in the middle.
            let ending = tokio::spawn(async move { sign_ins.end(&engine, session).await });
            ending.await.unwrap_or(Err(EngineError::Stopping))?;
        }
        let answer = self.session_state(None, false);
        Ok(with_header(answer, SET_COOKIE, &no_cookie(call.secure)))
    }
}
