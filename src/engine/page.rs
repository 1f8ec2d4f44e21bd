//! One page of a list: how many rows it may hold, and where the next one begins.
//!
//! Must stay true: a page ends after `limit` rows or `PAGE_BYTES` of texts, whichever texts they are
//! (P9), and holds one row at least. Not here: which rows there are (`query`).

use super::{Artifact, LeaseView, TaskView, WorkerView};
use crate::store::AuditEntry;

/// Bytes of texts after which a page ends.
const PAGE_BYTES: usize = 4 << 20;

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub rows: Vec<T>,
    /// Where the next page begins: below this sequence.
    pub next: Option<u64>,
}

/// The bytes of a row's texts, all of those whose length a caller chooses (P9).
pub trait Texts {
    fn bytes(&self) -> usize;
}

fn sum(texts: &[String]) -> usize {
    texts.iter().map(String::len).sum()
}

impl Texts for TaskView {
    fn bytes(&self) -> usize {
        let TaskView { task, spec } = self;
        let names = task.context_id.len() + spec.agent_slug.len();
        names + spec.prompt.len() + sum(&spec.context_hints) + sum(&task.labels)
    }
}

impl Texts for LeaseView {
    fn bytes(&self) -> usize {
        self.context_id.len()
    }
}

impl Texts for Artifact {
    fn bytes(&self) -> usize {
        match self {
            Artifact::Output(outcome) => {
                let output = outcome.output.as_ref().map_or(0, String::len);
                output + outcome.artifact_type.len() + sum(&outcome.artifact_tags)
            }
            Artifact::File(file) => file.name.len() + file.content_type.len(),
        }
    }
}

impl Texts for AuditEntry {
    fn bytes(&self) -> usize {
        self.detail.len()
    }
}

impl Texts for WorkerView {
    fn bytes(&self) -> usize {
        let worker = &self.worker;
        let about = worker.os_info.as_ref().map_or(0, String::len);
        about + worker.url.len() + sum(&worker.ip_addrs) + sum(&worker.capabilities.labels)
    }
}

/// Collects rows until the page is full; `cursor` is the sequence of the row that was added last.
pub struct Filling<T> {
    rows: Vec<T>,
    limit: usize,
    bytes: usize,
    cursor: u64,
}

impl<T: Texts> Filling<T> {
    pub fn new(limit: usize) -> Self {
        Filling { rows: Vec::new(), limit, bytes: 0, cursor: 0 }
    }

    pub fn is_full(&self) -> bool {
        self.rows.len() >= self.limit || self.bytes >= PAGE_BYTES
    }

    pub fn add(&mut self, seq: u64, row: T) {
        self.bytes += row.bytes();
        self.rows.push(row);
        self.cursor = seq;
    }

    /// A page of these rows, as many of them as fit.
    pub fn all(limit: usize, rows: Vec<T>, seq: impl Fn(&T) -> u64) -> Page<T> {
        let mut page = Filling::new(limit);
        for row in rows {
            if page.is_full() {
                return page.page(true);
            }
            page.add(seq(&row), row);
        }
        page.page(false)
    }

    /// Passes over a candidate that is no row any more.
    pub fn skip(&mut self, seq: u64) {
        self.cursor = seq;
    }

    /// `more`: whether there may be candidates after those that were looked at.
    pub fn page(self, more: bool) -> Page<T> {
        Page { next: more.then_some(self.cursor), rows: self.rows }
    }
}
