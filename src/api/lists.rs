//! Handlers of lists and counts: bare arrays, newest first, page by page.
//!
//! Must stay true: a page is read and encoded on a thread that may block; `limit` and `cursor` are
//! optional and bounded (`CONTRACT`, Where we are better). Not here: what a page holds
//! (`engine::query`), how `limit` and `cursor` are read (`http::paging`).

use super::{App, Call};
use crate::domain::{LeaseStatus, TaskStatus, WorkerId};
use crate::engine::{AuditSelection, EngineError, Page, Query, Selection};
use crate::http::answer::{Answer, json, with_header};
use crate::http::error::ApiError;
use crate::http::form::encode_value;
use crate::http::paging::{self, ROWS_MAX};
use crate::wire;
use hyper::StatusCode;
use hyper::header::LINK;
use serde::Serialize;

const AUDIT_ROWS: usize = 100;
const RUNS: usize = 50;

/// Which page is asked for.
struct Paging {
    limit: usize,
    cursor: Option<u64>,
}

impl Paging {
    fn of(call: &Call, default_limit: usize) -> Result<Paging, ApiError> {
        let cursor = paging::cursor(call.query("cursor")).map_err(|_| {
            let text = "The cursor is none that a page's Link gave";
            ApiError::unreadable(StatusCode::BAD_REQUEST, "bad_cursor", text)
        })?;
        Ok(Paging { limit: paging::limit(call.query("limit"), default_limit), cursor })
    }

    fn before(&self) -> u64 {
        self.cursor.unwrap_or(u64::MAX)
    }
}

impl App {
    /// Reads a page, encodes its rows and points to the next one.
    async fn page<T>(
        &self,
        call: &Call,
        read: impl Fn(&Query) -> Result<Page<T>, EngineError> + Send + Sync + 'static,
        encode: impl Fn(&[T]) -> Answer + Send + Sync + 'static,
    ) -> Result<Answer, ApiError> {
        // The permit goes with the read, which goes on when its caller has hung up.
        let turn = self.pages.clone().acquire_owned().await.expect("it is never closed");
        let page = self.engine.read(move |query| {
            let _ = &turn;
            let page = read(query)?;
            Ok((encode(&page.rows), page.next))
        });
        let (answer, next) = page.await?;
        Ok(match next {
            Some(next) => with_header(answer, LINK, &next_link(call, next)),
            None => answer,
        })
    }

    pub(super) async fn tasks(&self, call: &Call) -> Result<Answer, ApiError> {
        self.tasks_page(call, ROWS_MAX).await
    }

    pub(super) async fn runs(&self, call: &Call) -> Result<Answer, ApiError> {
        self.tasks_page(call, RUNS).await
    }

    async fn tasks_page(&self, call: &Call, rows: usize) -> Result<Answer, ApiError> {
        let paging = Paging::of(call, rows)?;
        let status = match call.query("status").filter(|word| !word.is_empty()) {
            None => None,
            Some(word) => match TaskStatus::from_word(word) {
                Some(status) => Some(status),
                None => return Ok(empty()),
            },
        };
        let given = |name| call.query(name).filter(|text| !text.is_empty()).map(str::to_owned);
        let selection = Selection {
            agent_slug: given("agent_slug"),
            context_id: given("context_id"),
            worker: given("worker_id").map(WorkerId),
            text: given("q"),
            ..Selection::default()
        };
        let read = move |query: &Query| match selection.is_empty() {
            true => query.tasks(status, paging.before(), paging.limit),
            false => query.find(&selection, status, paging.before(), paging.limit),
        };
        self.page(call, read, |rows| array(rows.iter().map(wire::task))).await
    }

    pub(super) async fn leases(&self, call: &Call) -> Result<Answer, ApiError> {
        let paging = Paging::of(call, ROWS_MAX)?;
        let statuses = match call.query("status").filter(|word| !word.is_empty()) {
            None => LeaseStatus::ALL.to_vec(),
            Some(word) => match LeaseStatus::from_word(word) {
                Some(status) => vec![status],
                None => return Ok(empty()),
            },
        };
        let read = move |query: &Query| query.leases(&statuses, paging.before(), paging.limit);
        self.page(call, read, |rows| array(rows.iter().map(wire::lease_view))).await
    }

    pub(super) async fn artifacts(&self, call: &Call) -> Result<Answer, ApiError> {
        let paging = Paging::of(call, ROWS_MAX)?;
        let read = |task: Option<&str>| match task.filter(|task| !task.is_empty()) {
            None => Some(None),
            Some(task) => task.parse().ok().map(Some),
        };
        let Some(task) = read(call.query("task_id")) else { return Ok(empty()) };
        let read = move |query: &Query| match task {
            None => query.artifacts(paging.before(), paging.limit),
            Some(task) => query.artifacts_of(task, paging.before(), paging.limit),
        };
        self.page(call, read, |rows| array(rows.iter().map(wire::artifact))).await
    }

    pub(super) async fn audit(&self, call: &Call) -> Result<Answer, ApiError> {
        let paging = Paging::of(call, AUDIT_ROWS)?;
        let given = |name| call.query(name).filter(|text| !text.is_empty()).map(str::to_owned);
        let selection = AuditSelection {
            entity_id: given("entity_id"),
            action: given("action"),
            actor: given("actor"),
            text: given("q"),
        };
        let read = move |query: &Query| match selection == AuditSelection::default() {
            true => query.audit(paging.before(), paging.limit),
            false => query.find_audit(&selection, paging.before(), paging.limit),
        };
        self.page(call, read, |rows| array(rows.iter())).await
    }

    /// Workers come oldest first.
    pub(super) async fn workers(&self, call: &Call) -> Result<Answer, ApiError> {
        let paging = Paging::of(call, ROWS_MAX)?;
        let after = paging.cursor.unwrap_or(0);
        let read = move |query: &Query| Ok(query.workers(after, paging.limit));
        self.page(call, read, |rows| array(rows.iter().map(wire::worker))).await
    }

    pub(super) async fn stats(&self) -> Result<Answer, ApiError> {
        let oldest = self.engine.read(|query| query.oldest_queued_at()).await?;
        let query = self.engine.query();
        let known = self.objects.as_ref().map(|objects| objects.progress.known());
        let last_hour = query.last_hour(self.clock.now().wall);
        Ok(json(StatusCode::OK, &wire::stats(&query.stats(), oldest, &last_hour, known.as_ref())))
    }

    pub(super) async fn retention(&self) -> Result<Answer, ApiError> {
        let (retention, now) = (self.retention, self.clock.now().mono);
        let outlook = self.engine.read(move |query| query.outlook(&retention, now)).await?;
        Ok(json(StatusCode::OK, &wire::retention(&outlook)))
    }
}

fn array(rows: impl Iterator<Item = impl Serialize>) -> Answer {
    json(StatusCode::OK, &rows.collect::<Vec<_>>())
}

fn empty() -> Answer {
    json(StatusCode::OK, &[(); 0])
}

fn next_link(call: &Call, next: u64) -> String {
    let mut link = format!("<{}?", call.path);
    for (name, value) in call.query.iter().filter(|(name, _)| name != "cursor") {
        link.push_str(&format!("{}={}&", encode_value(name), encode_value(value)));
    }
    link.push_str(&format!("cursor={}>; rel=\"next\"", paging::print(next)));
    link
}
