//! The live log of a task: its newest lines as JSON, or a stream that ends with the task.
//!
//! The stream: `id: <n>` and `data: {line}` for each line, so that a browser resumes with
//! `Last-Event-ID`; `event: lost` where lines are not remembered any more; `event: end` with the status
//! when the task is finished. Must stay true: a line is taken only from a heartbeat that counted; who
//! follows is counted among the listeners (P9). Not here: how much is remembered (`engine::logs`).

use super::events::{Counted, after_place, send};
use super::tasks::task_id;
use super::{App, Call};
use crate::domain::TaskStatus;
use crate::engine::{Follower, LINES_KEPT, LeaseView};
use crate::http::answer::{Answer, EVENT_STREAM, empty_stream, json, with_body};
use crate::http::error::ApiError;
use crate::http::paging;
use crate::wire;
use http_body_util::Either;
use http_body_util::channel::{Channel, Sender};
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::ACCEPT;
use std::convert::Infallible;
use std::fmt::Write;
use tokio::sync::watch;
use tokio::time::timeout;

/// Lines that one write to a follower holds.
const LINES_AT_ONCE: usize = 64;

impl App {
    /// Takes the lines of a heartbeat that counted.
    pub(super) fn take_lines(&self, call: &Call, lease: &LeaseView) {
        let lines = wire::log_lines(&call.payload);
        let now = self.clock.now().wall;
        self.engine.logs().write(lease.task_id.seq(), lease.fence, now, lines);
    }

    pub(super) async fn task_log(&self, call: &Call) -> Result<Answer, ApiError> {
        let id = task_id(call)?;
        let accept = call.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
        let is_followed = call.query("follow").is_some_and(|word| !matches!(word, "" | "0"))
            || accept.is_some_and(|accept| accept.contains("text/event-stream"));
        let after = after_place(call, "after");
        if is_followed && !call.is_head {
            let place = self.listen()?;
            // Before its status is read, so that no change falls in between.
            let follower = self.engine.logs().follow(id.seq());
            let status = self.engine.read(move |query| query.status(id)).await?;
            let (sender, body) = Channel::new(1);
            let following = Following { follower, status, after: after.unwrap_or(0) };
            tokio::spawn(feed(sender, following, self.stopping.clone(), place));
            return Ok(with_body(StatusCode::OK, EVENT_STREAM, Either::Right(body)));
        }
        // Before the lines are read: at the end of a task all of them are there.
        let status = self.engine.read(move |query| query.status(id)).await?;
        if is_followed {
            return Ok(empty_stream());
        }
        let limit = paging::limit(call.query("limit"), LINES_KEPT);
        let tail = self.engine.logs().after(id.seq(), after.unwrap_or(0), limit);
        Ok(json(StatusCode::OK, &wire::log(id, &tail, status)))
    }
}

/// A follower, the status of its task before it followed, and how far it has come.
struct Following {
    follower: Follower,
    status: TaskStatus,
    after: u64,
}

impl Following {
    /// What is new, as the stream shows it, and whether that is the end.
    fn news(&mut self) -> (String, bool) {
        let tail = self.follower.after(self.after, LINES_AT_ONCE);
        let status = tail.status.unwrap_or(self.status);
        let mut text = String::new();
        let mut add = |line: std::fmt::Arguments<'_>| {
            text.write_fmt(line).expect("memory takes text");
        };
        if tail.lost {
            let first = tail.next - tail.lines.len() as u64 + 1;
            add(format_args!("event: lost\ndata: {{\"next\":{first}}}\n\n"));
        }
        for line in &tail.lines {
            let data = serde_json::to_string(&wire::log_line(line)).expect("text and numbers");
            add(format_args!("id: {}\ndata: {data}\n\n", line.n));
        }
        self.after = tail.next;
        let is_end = status.is_finished() && tail.lines.len() < LINES_AT_ONCE;
        if is_end {
            add(format_args!("event: end\ndata: {{\"status\":\"{}\"}}\n\n", status.as_str()));
        }
        (text, is_end)
    }
}

async fn feed(
    mut sender: Sender<Bytes, Infallible>,
    mut following: Following,
    mut stopping: watch::Receiver<bool>,
    _place: Counted,
) {
    if !send(&mut sender, ": connected\n\n".into(), &mut stopping).await {
        return;
    }
    loop {
        let (mut text, is_end) = following.news();
        if text.is_empty() {
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => return,
                woken = timeout(super::events::KEEP_ALIVE, following.follower.changed()) => {
                    if woken.is_ok() {
                        continue;
                    }
                    text.push_str(": alive\n\n");
                }
            }
        }
        if !send(&mut sender, text, &mut stopping).await || is_end {
            return;
        }
    }
}
