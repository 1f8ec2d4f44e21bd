//! Finding and ending what a run left behind: processes that left its group (Claude starts tools in
//! sessions of their own) and, at a worker's start, everything of an earlier worker that died too
//! suddenly to clean up.
//!
//! Each run carries a mark in its processes' environment, which is also its scratch folder's name;
//! it names the worker's process, so that a later one knows whether anybody still owns it. What must
//! stay true: only marked processes are signalled, and never by an id that may have changed hands.
//! Out of reach: a process that cleared its environment *and* left the group; and systems without
//! `/proc`.

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use std::collections::HashSet;
use std::ffi::OsString;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

/// The variable that carries the mark.
pub const MARK: &str = "BLOOM_RUN";
const PREFIX: &str = "bloom-run-";

/// A mark that no other run has: `bloom-run-<our process>-<by chance>`.
pub fn new_mark() -> String {
    let chance = RandomState::new().hash_one(PREFIX);
    format!("{PREFIX}{}-{chance:016x}", std::process::id())
}

/// Where scratch folders are made: the children's own TMPDIR, or `/tmp`.
pub fn scratch_base(environment: &[(OsString, OsString)]) -> &Path {
    let tmpdir = environment.iter().find(|(name, _)| name == "TMPDIR");
    tmpdir.map_or(Path::new("/tmp"), |(_, value)| Path::new(value))
}

/// Ends every process of this run.
pub fn end_run(mark: &str) {
    kill_where(|other| other == mark);
}

/// Ends the processes and removes the scratch folders of workers that are no more.
pub fn end_orphans(scratch_base: &Path) {
    let killed = kill_where(is_orphaned);
    let mut removed = 0;
    for entry in scratch_base.read_dir().into_iter().flatten().flatten() {
        let orphaned = entry.file_name().to_str().is_some_and(is_orphaned);
        if orphaned && std::fs::remove_dir_all(entry.path()).is_ok() {
            removed += 1;
        }
    }
    if killed + removed > 0 {
        log::info!("cleaned up after an earlier worker processes={killed} folders={removed}");
    }
}

/// Whether the worker that made this mark is gone.
fn is_orphaned(mark: &str) -> bool {
    let owner = mark.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-'));
    let Some(owner) = owner.and_then(|(pid, _)| pid.parse().ok()).filter(|pid| *pid > 0) else {
        return false;
    };
    Pid::from_raw(owner).is_some_and(|owner| test_kill_process(owner) == Err(Errno::SRCH))
}

/// Kills every process whose mark is meant, until a round finds no new one; how many there were.
#[cfg(target_os = "linux")]
fn kill_where(is_meant: impl Fn(&str) -> bool) -> usize {
    use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    let own = std::process::id() as i32;
    let mut seen = HashSet::from([own]);
    let meant = |pid: i32| mark_of(pid).is_some_and(|mark| is_meant(&mark));
    loop {
        let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let found: Vec<i32> = pids.filter(|pid| !seen.contains(pid) && meant(*pid)).collect();
        if found.is_empty() {
            return seen.len() - 1;
        }
        for pid in found {
            seen.insert(pid);
            // Opened first and looked at again: the id may have changed hands meanwhile.
            let handle = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
            if let Some(Ok(handle)) = handle
                && meant(pid)
            {
                let _ = pidfd_send_signal(&handle, Signal::KILL);
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn kill_where(_is_meant: impl Fn(&str) -> bool) -> usize {
    0
}

/// A process's environment. In the moment of its exec a process has none yet, and just then a spawn
/// returns; one that has a program but no environment is therefore looked at again.
#[cfg(target_os = "linux")]
fn environment_of(pid: i32) -> Option<Vec<u8>> {
    const LOOKS: usize = 1_000;
    let mut environment = Vec::new();
    for _ in 0..LOOKS {
        environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        if !environment.is_empty() || std::fs::read_link(format!("/proc/{pid}/exe")).is_err() {
            break;
        }
        std::thread::yield_now();
    }
    Some(environment)
}

#[cfg(target_os = "linux")]
fn mark_of(pid: i32) -> Option<String> {
    let environment = environment_of(pid)?;
    let mut variables = environment.split(|byte| *byte == 0);
    variables.find_map(|variable| {
        let mark = std::str::from_utf8(variable).ok()?.strip_prefix(MARK)?.strip_prefix('=')?;
        Some(mark.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn sleeping(mark: &str) -> Child {
        Command::new("sleep").arg("1000").env(MARK, mark).spawn().unwrap()
    }

    #[test]
    fn what_a_dead_worker_left_is_ended_and_what_a_living_one_runs_is_not() {
        let mut dead = Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        let base = tempfile::tempdir().unwrap();
        let orphaned = format!("{PREFIX}{}-00", dead.id());
        let owned = new_mark();
        for folder in [&orphaned, &owned, &"other".to_owned()] {
            std::fs::create_dir(base.path().join(folder)).unwrap();
        }
        let (mut orphan, mut ours) = (sleeping(&orphaned), sleeping(&owned));

        end_orphans(base.path());
        assert!(!orphan.wait().unwrap().success());
        assert_eq!(ours.try_wait().unwrap(), None, "its worker, this process, lives");
        assert!(!base.path().join(&orphaned).exists());
        assert!(base.path().join(&owned).exists() && base.path().join("other").exists());

        end_run(&owned);
        assert!(!ours.wait().unwrap().success());
    }

    #[test]
    fn a_strange_mark_is_nobodys_orphan() {
        for mark in ["", "bloom-run-", "bloom-run-x-1", "bloom-run--1-1", "bloom-run-0-1", "other"]
        {
            assert!(!is_orphaned(mark), "{mark}");
        }
    }
}
