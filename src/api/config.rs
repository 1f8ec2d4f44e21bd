//! Handlers of health, settings and the connection to Membridge.
//!
//! Must stay true: the admin key leaves only masked (P10); a save takes effect after its commit or not
//! at all. Not here: the calls to Membridge (`membridge`).

use super::{App, Call};
use crate::domain::{Audit, EventKind};
use crate::engine::{ConfigChange, Settings};
use crate::http::answer::{Answer, json};
use crate::http::error::ApiError;
use crate::membridge::Membridge;
use crate::wire;
use hyper::StatusCode;
use serde_json::json;

impl App {
    pub(super) fn health(&self) -> Result<Answer, ApiError> {
        let mut body = json!({
            "status": "ok",
            "service": "bloom-runtime",
            "uptime": self.uptime(),
            "storage": "redb",
            "storage_state": wire::storage_state(self.engine.query().trouble()),
            "membridge": self.membridge.health(),
        });
        if let Some(objects) = &self.objects {
            body["artifacts"] = json!(wire::objects(&objects.progress.known()));
        }
        Ok(json(StatusCode::OK, &body))
    }

    pub(super) fn config(&self) -> Result<Answer, ApiError> {
        Ok(json(StatusCode::OK, &self.membridge.config()))
    }

    pub(super) async fn set_config(&self, call: &Call) -> Result<Answer, ApiError> {
        let payload = call.payload.clone();
        self.change_config(move |membridge| {
            let config = wire::config(&payload, |url| membridge.has_key_for(url))?;
            let url = config.membridge_server_url;
            let settings =
                membridge.changed(&url, config.admin_key).ok_or_else(ApiError::cut_off)?;
            Ok(Some((settings, format!("Updated membridge URL to {url}"))))
        })
        .await
    }

    /// Back to the environment's settings.
    pub(super) async fn clear_config(&self) -> Result<Answer, ApiError> {
        self.change_config(|membridge| {
            let detail =
                "Cleared the saved membridge settings, the environment's are used".to_owned();
            Ok(membridge.is_saved().then(|| (Settings::default(), detail)))
        })
        .await
    }

    /// Stores what `decide` wants and uses it from then on, as one step: also when the caller hangs up in
    /// the middle, and when another does the same.
    async fn change_config(
        &self,
        decide: impl FnOnce(&Membridge) -> Result<Option<(Settings, String)>, ApiError> + Send + 'static,
    ) -> Result<Answer, ApiError> {
        let (engine, membridge) = (self.engine.clone(), self.membridge.clone());
        let changing = tokio::spawn(async move {
            let _turn = membridge.saving.lock().await;
            let Some((settings, detail)) = decide(&membridge)? else { return Ok(()) };
            let audit = Audit::of_config("admin", detail);
            let (kind, saved) = (EventKind::ConfigUpdated, Some(settings.clone()));
            engine.configure(ConfigChange { settings: saved, kind, audit }).await?;
            membridge.use_settings(settings);
            Ok(())
        });
        changing.await.unwrap_or_else(|_| Err(ApiError::cut_off()))?;
        self.config()
    }

    pub(super) async fn test_connection(&self) -> Result<Answer, ApiError> {
        let outcome = self.membridge.test().await;
        if let Some(summary) = outcome.summary() {
            let audit = Audit::of_config("admin", format!("Connection OK: {summary}"));
            let kind = EventKind::ConnectionTest;
            self.engine.configure(ConfigChange { settings: None, kind, audit }).await?;
        }
        Ok(json(StatusCode::OK, &outcome.to_json()))
    }
}
