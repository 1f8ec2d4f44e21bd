//! What running tasks say of themselves: for each the newest lines, for those who look or follow.
//!
//! Memory only, beside the writer: nothing of it touches the disk (P8), a restart forgets it. Must stay
//! true: a log and all logs together are bounded (P9), the oldest lines go first and the log that was
//! written longest ago; lines are numbered per task over its attempts; a follower learns of the end of
//! its task after the commit (P6). Not here: how lines are sent.

use crate::domain::TaskStatus;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;

/// Lines, and bytes of them, that a task's log holds.
pub const LINES_KEPT: usize = 500;
const LOG_BYTES: usize = 64 << 10;
/// Bytes of all logs together.
const ALL_LOGS_BYTES: usize = 8 << 20;
/// What a line, and a log, costs beside its text.
const LINE_BYTES: usize = 56;
const EMPTY_LOG_BYTES: usize = 256;

/// One line of a task's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// From 1, without gaps, over all attempts.
    pub n: u64,
    /// When it came, Unix milliseconds.
    pub at: i64,
    /// The fencing number of the lease under which it was said.
    pub attempt: u32,
    pub text: Arc<str>,
}

/// Lines of a log from a place on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    pub lines: Vec<LogLine>,
    /// The place after them.
    pub next: u64,
    /// There were lines before these that are not remembered any more.
    pub lost: bool,
    /// The task's status, if it has changed since there is a log or a follower.
    pub status: Option<TaskStatus>,
}

/// The logs of all tasks.
#[derive(Default)]
pub struct TaskLogs(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    logs: HashMap<u64, Log>,
    /// Tasks whose logs have lines, by the time at which they were written last.
    by_age: BTreeMap<u64, u64>,
    bytes: usize,
    writes: u64,
}

#[derive(Default)]
struct Log {
    lines: VecDeque<LogLine>,
    bytes: usize,
    last: u64,
    /// Its place in `by_age` while it has lines.
    written: u64,
    status: Option<TaskStatus>,
    followers: usize,
    /// Made by the first follower.
    news: Option<watch::Sender<()>>,
}

impl Log {
    fn push(&mut self, line: LogLine) {
        self.last = line.n;
        self.bytes += LINE_BYTES + line.text.len();
        self.lines.push_back(line);
        while self.lines.len() > LINES_KEPT || self.bytes > LOG_BYTES {
            let gone = self.lines.pop_front().expect("what is too much is there");
            self.bytes -= LINE_BYTES + gone.text.len();
        }
    }

    fn wake(&self) {
        if let Some(news) = &self.news {
            news.send_replace(());
        }
    }
}

impl Kept {
    fn write(&mut self, task: u64, attempt: u32, at: i64, texts: Vec<String>) {
        self.writes += 1;
        let log = self.logs.entry(task).or_default();
        match log.lines.is_empty() {
            true => self.bytes += EMPTY_LOG_BYTES,
            false => drop(self.by_age.remove(&log.written)),
        }
        self.by_age.insert(self.writes, task);
        log.written = self.writes;
        self.bytes -= log.bytes;
        for text in texts {
            log.push(LogLine { n: log.last + 1, at, attempt, text: text.into() });
        }
        self.bytes += log.bytes;
        log.wake();
        while self.bytes > ALL_LOGS_BYTES {
            let (_, oldest) = self.by_age.pop_first().expect("bytes belong to a log with lines");
            self.forget(oldest);
        }
    }

    /// Lets go of a log's lines; who follows it keeps its place.
    fn forget(&mut self, task: u64) {
        let log = self.logs.get_mut(&task).expect("every log with lines is there");
        self.bytes -= EMPTY_LOG_BYTES + std::mem::take(&mut log.bytes);
        log.lines = VecDeque::new();
        if log.followers == 0 {
            self.logs.remove(&task);
        }
    }

    fn after(&self, task: u64, after: u64, limit: usize) -> Tail {
        let Some(log) = self.logs.get(&task) else {
            return Tail { lost: after > 0, ..Tail::default() };
        };
        let before_first = log.last - log.lines.len() as u64;
        let lost = !(before_first..=log.last).contains(&after);
        let from = if lost { before_first } else { after };
        let skipped = usize::try_from(from - before_first).expect("no more than there are lines");
        let lines: Vec<LogLine> = log.lines.iter().skip(skipped).take(limit).cloned().collect();
        Tail { next: from + lines.len() as u64, lines, lost, status: log.status }
    }
}

impl TaskLogs {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("no holder panics")
    }

    /// Takes in what a task said under the lease with this fencing number; `at` in Unix milliseconds.
    pub fn write(&self, task: u64, attempt: u32, at: i64, texts: Vec<String>) {
        if !texts.is_empty() {
            self.kept().write(task, attempt, at, texts);
        }
    }

    /// Tells of the status that tasks have now; after their commit.
    pub(super) fn tell(&self, tasks: impl Iterator<Item = (u64, TaskStatus)>) {
        let mut kept = self.kept();
        if kept.logs.is_empty() {
            return;
        }
        for (task, status) in tasks {
            if let Some(log) = kept.logs.get_mut(&task) {
                log.status = Some(status);
                log.wake();
            }
        }
    }

    /// At most `limit` lines of a task after the place `after`.
    pub fn after(&self, task: u64, after: u64, limit: usize) -> Tail {
        self.kept().after(task, after, limit)
    }

    /// Follows a task, from before its status is read: nothing in between is missed.
    pub fn follow(self: &Arc<Self>, task: u64) -> Follower {
        let mut kept = self.kept();
        let log = kept.logs.entry(task).or_default();
        log.followers += 1;
        let news = log.news.get_or_insert_with(|| watch::Sender::new(())).subscribe();
        Follower { logs: self.clone(), task, news }
    }
}

/// One who follows a task's log.
pub struct Follower {
    logs: Arc<TaskLogs>,
    task: u64,
    news: watch::Receiver<()>,
}

impl Follower {
    /// At most `limit` lines after the place `after`; what comes later wakes `changed`.
    pub fn after(&mut self, after: u64, limit: usize) -> Tail {
        self.news.mark_unchanged();
        self.logs.after(self.task, after, limit)
    }

    /// The task's status, if it has changed since it is followed.
    pub fn status(&self) -> Option<TaskStatus> {
        self.logs.kept().logs.get(&self.task)?.status
    }

    /// Waits until there is more to know.
    pub async fn changed(&mut self) {
        self.news.changed().await.expect("the log is kept while it is followed");
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut kept = self.logs.kept();
        let log = kept.logs.get_mut(&self.task).expect("the log is kept while it is followed");
        log.followers -= 1;
        if log.followers > 0 {
            return;
        }
        log.news = None;
        if log.lines.is_empty() {
            kept.logs.remove(&self.task);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(range: std::ops::Range<usize>) -> Vec<String> {
        range.map(|n| format!("line {n}")).collect()
    }

    fn numbers(tail: &Tail) -> Vec<u64> {
        tail.lines.iter().map(|line| line.n).collect()
    }

    #[test]
    fn a_reader_goes_on_where_it_stopped_and_is_told_what_it_cannot_have() {
        let logs = TaskLogs::default();
        assert_eq!(logs.after(1, 0, 9), Tail::default());
        assert!(logs.after(1, 3, 9).lost, "a place in another life of the server");
        logs.write(1, 1, 50, texts(0..3));
        logs.write(1, 2, 60, texts(3..4));
        let tail = logs.after(1, 0, 2);
        assert_eq!((numbers(&tail), tail.next, tail.lost), (vec![1, 2], 2, false));
        let tail = logs.after(1, tail.next, 9);
        assert_eq!((numbers(&tail), tail.next), (vec![3, 4], 4), "numbered over attempts");
        let last = LogLine { n: 4, at: 60, attempt: 2, text: "line 3".into() };
        assert_eq!(tail.lines.last(), Some(&last));
        assert_eq!(logs.after(1, 4, 9), Tail { next: 4, ..Tail::default() });
        logs.write(1, 2, 70, texts(0..LINES_KEPT));
        let tail = logs.after(1, 2, 1);
        assert_eq!((numbers(&tail), tail.lost), (vec![5], true));
        assert!(!logs.after(1, 4, 1).lost);
        assert!(logs.after(1, 99_999, 1).lost, "a place that was never given");
    }

    #[test]
    fn long_lines_make_room_by_their_bytes() {
        let logs = TaskLogs::default();
        logs.write(1, 1, 0, vec!["x".repeat(8_000); 20]);
        let tail = logs.after(1, 0, 99);
        assert_eq!((tail.lines.len(), tail.next), (LOG_BYTES / (8_000 + LINE_BYTES), 20));
    }

    #[test]
    fn the_log_that_was_written_longest_ago_makes_room_for_all_others() {
        let logs = Arc::new(TaskLogs::default());
        let a_lot = || vec!["x".repeat(8_000); 8];
        let room = ALL_LOGS_BYTES / (8 * (8_000 + LINE_BYTES) + EMPTY_LOG_BYTES);
        (0..room as u64).for_each(|task| logs.write(task, 1, 0, a_lot()));
        assert_eq!(logs.after(0, 0, 99).lines.len(), 8, "all of them fit");
        logs.write(0, 1, 0, texts(0..1));
        let mut follower = logs.follow(2);
        logs.write(room as u64, 1, 0, a_lot());
        logs.write(room as u64 + 1, 1, 0, a_lot());
        assert_eq!(logs.after(0, 0, 99).lines.len(), 9, "written again");
        assert_eq!(logs.after(1, 8, 99), Tail { lost: true, ..Tail::default() });
        let tail = follower.after(8, 99);
        assert_eq!((tail.lines.len(), tail.next), (0, 8), "who follows keeps its place");
        logs.write(2, 1, 0, texts(0..1));
        assert_eq!(numbers(&follower.after(8, 99)), [9]);
        let kept = logs.kept();
        let bytes: usize = kept.logs.values().map(|log| log.bytes + EMPTY_LOG_BYTES).sum();
        assert_eq!((kept.bytes, kept.by_age.len()), (bytes, kept.logs.len()));
    }

    #[test]
    fn a_log_that_nobody_wrote_or_follows_is_not_there() {
        let logs = Arc::new(TaskLogs::default());
        logs.tell([(1, TaskStatus::Completed)].into_iter());
        let followers = [logs.follow(1), logs.follow(1)];
        logs.tell([(1, TaskStatus::Failed), (2, TaskStatus::Failed)].into_iter());
        assert_eq!(logs.after(1, 0, 9).status, Some(TaskStatus::Failed));
        drop(followers);
        assert!(logs.kept().logs.is_empty());
    }

    #[tokio::test]
    async fn a_follower_is_woken_by_lines_and_by_the_end() {
        let logs = Arc::new(TaskLogs::default());
        let mut follower = logs.follow(1);
        assert_eq!(follower.after(0, 9), Tail::default());
        logs.write(1, 1, 0, texts(0..1));
        follower.changed().await;
        assert_eq!(numbers(&follower.after(0, 9)), [1]);
        logs.tell([(1, TaskStatus::Cancelled)].into_iter());
        follower.changed().await;
        assert_eq!(follower.after(1, 9).status, Some(TaskStatus::Cancelled));
    }
}
