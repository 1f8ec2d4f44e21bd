//! Handlers of the Membridge proxy (`CONTRACT §4`).
//!
//! Must stay true: nothing is sent for a project id that could lead to another path; JSON is passed on
//! as it came; a promotion leaves a record of who asked (or is not sent). Not here: the calls
//! (`membridge`), what is added to an answer (`wire::membridge`).

use super::{App, Call};
use crate::domain::{Audit, Entity, EventKind};
use crate::engine::ConfigChange;
use crate::http::answer::{Answer, JSON, bytes};
use crate::http::error::ApiError;
use crate::membridge::{Fault, FaultKind, For};
use crate::wire;
use hyper::StatusCode;

/// Tries of a GET, and of the one for Membridge's health.
const TRIES: u32 = 4;
const HEALTH_TRIES: u32 = 2;
const PROJECT_ID_CHARS_MAX: usize = 128;

impl App {
    pub(super) async fn membridge_health(&self) -> Result<Answer, ApiError> {
        self.fetch("/health".into(), HEALTH_TRIES).await.map(passed_on)
    }

    pub(super) async fn projects(&self) -> Result<Answer, ApiError> {
        self.fetch("/projects".into(), TRIES).await.map(passed_on)
    }

    pub(super) async fn leadership(&self, call: &Call) -> Result<Answer, ApiError> {
        let project = project_id(call)?;
        let path = format!("/projects/{project}/leadership");
        let record = async {
            match &self.objects {
                None => None,
                Some(objects) => Some(objects.leadership.of(project).await),
            }
        };
        let (said, lease) = tokio::join!(self.fetch(path, TRIES), record);
        let now = self.clock.now().wall;
        Ok(passed_on(wire::leadership(said?, lease.as_ref(), now)))
    }

    pub(super) async fn nodes(&self, call: &Call) -> Result<Answer, ApiError> {
        let path = format!("/projects/{}/nodes", project_id(call)?);
        self.fetch(path, TRIES).await.map(passed_on)
    }

    async fn fetch(&self, path: String, tries: u32) -> Result<Vec<u8>, ApiError> {
        self.membridge.get(path, tries, For::Somebody).await.map_err(|fault| refused(fault, false))
    }

    /// Sent once, and recorded, also when the caller hangs up meanwhile.
    pub(super) async fn select_primary(&self, call: &Call) -> Result<Answer, ApiError> {
        let project = project_id(call)?.to_owned();
        let selection = wire::selection(&call.payload)?;
        if self.engine.query().trouble().is_some() {
            let text = "The server's disk takes no writes, so a promotion would leave no record; \
                        nothing was sent";
            return Err(ApiError::unavailable("no_record_possible", text));
        }
        let (engine, membridge) = (self.engine.clone(), self.membridge.clone());
        let selecting = tokio::spawn(async move {
            let path = format!("/projects/{project}/leadership/select");
            let body = serde_json::to_vec(&selection).expect("text keys and finite numbers");
            let answer = membridge.post(path, body).await.map_err(|fault| refused(fault, true))?;
            let node = selection.primary_node_id;
            let audit = Audit {
                entity: Entity::Project,
                entity_id: project.clone(),
                actor: "admin".into(),
                detail: format!("Promoted primary to {node} for project {project}"),
            };
            let kind = EventKind::LeadershipPromote;
            let told = engine.configure(ConfigChange { settings: None, kind, audit }).await;
            if let Err(error) = told {
                // It has happened: to say anything else would have it done again.
                log::error!(
                    "promotion of {node:?} for project {project} without a record: {error}"
                );
            }
            Ok(passed_on(answer))
        });
        selecting.await.unwrap_or_else(|_| Err(ApiError::cut_off()))
    }
}

fn passed_on(body: Vec<u8>) -> Answer {
    bytes(StatusCode::OK, JSON, body)
}

/// A project's id that can be nothing but one segment of a path.
fn project_id(call: &Call) -> Result<&str, ApiError> {
    let id = call.route.id.as_str();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_one = (1..=PROJECT_ID_CHARS_MAX).contains(&id.len()) && id.bytes().all(plain);
    if is_one && id != "." && id != ".." {
        return Ok(id);
    }
    let text =
        "A project id is 1 to 128 letters, digits, dots, hyphens and underscores, and not . or ..";
    Err(ApiError::new(StatusCode::BAD_REQUEST, "bad_project_id", text))
}

/// What the caller learns; `says` passes on what Membridge said, as for a promotion.
fn refused(fault: Fault, says: bool) -> ApiError {
    let Fault { kind, error, detail } = fault;
    let bad_gateway = |code| ApiError::new(StatusCode::BAD_GATEWAY, code, error.clone());
    match kind {
        FaultKind::Unreachable => bad_gateway("membridge_unreachable").with_detail(detail),
        FaultKind::Unusable => bad_gateway("membridge_unusable").with_detail(detail),
        FaultKind::Resting { seconds } => {
            bad_gateway("membridge_resting").with_detail(detail).retry_after(seconds)
        }
        FaultKind::Busy => ApiError::unavailable("membridge_busy", detail),
        FaultKind::Status { status, said } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            let error = if says && !said.is_empty() { said } else { error };
            ApiError::new(status, "membridge_refused", error).with_detail(detail)
        }
    }
}
