//! Handlers of health, settings and the connection to Membridge.
//!
//! Must stay true: the admin key leaves only masked (P10); a save takes effect after its commit or not
//! at all. Not here: the calls to Membridge (`membridge`).

use super::{App, Call};
use crate::config::Secret;
use crate::domain::EventKind;
use crate::engine::{ConfigChange, Settings};
use crate::http::answer::{Answer, json};
use crate::http::error::ApiError;
use crate::wire;
use hyper::StatusCode;
use serde_json::json;

impl App {
    pub(super) fn health(&self) -> Result<Answer, ApiError> {
        let body = json!({
            "status": "ok",
            "service": "bloom-runtime",
            "uptime": self.uptime(),
            "storage": "redb",
            "storage_state": wire::storage_state(self.engine.query().trouble()),
            "membridge": self.membridge.health(),
        });
        Ok(json(StatusCode::OK, &body))
    }

    pub(super) fn config(&self) -> Result<Answer, ApiError> {
        Ok(json(StatusCode::OK, &self.membridge.config()))
    }

    pub(super) async fn set_config(&self, call: &Call) -> Result<Answer, ApiError> {
        let config = wire::config(&call.payload)?;
        let settings = Settings {
            membridge_server_url: Some(config.membridge_server_url.as_str().to_owned()),
            membridge_admin_key: Some(config.admin_key.clone()),
        };
        let detail = format!("Updated membridge URL to {}", config.membridge_server_url.as_str());
        let kind = EventKind::ConfigUpdated;
        self.engine.configure(ConfigChange { settings: Some(settings), kind, detail }).await?;
        self.membridge.point_to(config.membridge_server_url, Some(Secret::new(config.admin_key)));
        self.config()
    }

    pub(super) async fn test_connection(&self) -> Result<Answer, ApiError> {
        let outcome = self.membridge.clone().test().await;
        if outcome.connected() {
            let detail = format!("Connection OK: {}", outcome.summary());
            let kind = EventKind::ConnectionTest;
            self.engine.configure(ConfigChange { settings: None, kind, detail }).await?;
        }
        Ok(json(StatusCode::OK, &outcome.to_json()))
    }
}
