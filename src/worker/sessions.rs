//! The sessions of Claude CLI that are carried on from task to task: one for each agent and context.
//!
//! A session belongs to its working folder, so each has one of its own below the state directory,
//! beside a note of its id: `sessions/<key>/{session.json, work/}`. Must stay true: a session is used by
//! one task at a time, also with several workers on one state directory (a lock on the note); a context
//! never gets another's session; their number is bounded, the one unused for longest goes, with its
//! transcripts. Not here: when a session is begun or resumed ([`super::task`]).

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How many sessions are kept.
const SESSIONS_MAX: usize = 256;
const NOTE: &str = "session.json";
const NOTE_BYTES_MAX: u64 = 64 * 1024;

/// All sessions of a machine.
pub struct Sessions {
    folder: PathBuf,
    /// Where Claude CLI keeps transcripts, when that is known.
    transcripts: Option<PathBuf>,
    kept_max: usize,
}

/// The session of one context while a task uses it.
pub struct Session {
    pub work: PathBuf,
    note: Note,
    /// Holds the lock.
    file: File,
}

/// What stands beside a session's working folder.
#[derive(Default, Deserialize, Serialize)]
struct Note {
    agent_slug: String,
    context_id: String,
    /// None while no run has begun it.
    session_id: Option<String>,
}

impl Sessions {
    /// `environment` is Claude CLI's; it tells where that keeps its transcripts. Errors: nothing can be
    /// kept below `state_dir`.
    pub fn new(state_dir: &Path, environment: &[(OsString, OsString)]) -> io::Result<Sessions> {
        let folder = |wanted: &str| {
            let named = environment.iter().find(|(name, _)| name == wanted);
            named.map(|(_, value)| PathBuf::from(value))
        };
        let claude = folder("CLAUDE_CONFIG_DIR").or_else(|| Some(folder("HOME")?.join(".claude")));
        let sessions = state_dir.join("sessions");
        private_folder(&sessions)?;
        Ok(Sessions {
            folder: sessions,
            transcripts: claude.map(|claude| claude.join("projects")),
            kept_max: SESSIONS_MAX,
        })
    }

    /// The session of this agent and context; none while another task uses it.
    pub fn take(&self, agent_slug: &str, context_id: &str) -> io::Result<Option<Session>> {
        let folder = self.folder.join(key(agent_slug, context_id));
        let work = folder.join("work");
        private_folder(&work)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(folder.join(NOTE))?;
        if !lock(&file)? {
            return Ok(None);
        }
        // Somebody may have let go of it just before it was locked.
        private_folder(&work)?;
        let mut text = String::new();
        (&file).take(NOTE_BYTES_MAX).read_to_string(&mut text)?;
        let own = |note: &Note| note.agent_slug == agent_slug && note.context_id == context_id;
        let note = match serde_json::from_str::<Note>(&text) {
            Ok(note) if own(&note) => note,
            // New, cut off, or of another context whose key is the same.
            _ => Note {
                agent_slug: agent_slug.into(),
                context_id: context_id.into(),
                session_id: None,
            },
        };
        let mut session = Session { work, note, file };
        // Also tells when it was last used.
        session.write()?;
        self.let_go_of_the_oldest();
        Ok(Some(session))
    }

    fn let_go_of_the_oldest(&self) {
        let entries = self.folder.read_dir().into_iter().flatten().flatten();
        let mut kept: Vec<_> = entries
            .map(|entry| {
                let used = entry.path().join(NOTE).metadata().and_then(|note| note.modified());
                (used.ok(), entry.path())
            })
            .collect();
        kept.sort();
        let surplus = kept.len().saturating_sub(self.kept_max);
        for (_, folder) in kept.into_iter().take(surplus) {
            if let Err(fault) = self.remove(&folder) {
                log::warn!("an old session is left behind path={} error={fault}", folder.display());
            }
        }
    }

    fn remove(&self, folder: &Path) -> io::Result<()> {
        // Held until the folder is gone; one that is in use stays.
        let file = File::open(folder.join(NOTE));
        if let Ok(file) = &file
            && !lock(file)?
        {
            return Ok(());
        }
        if let Some(transcripts) = &self.transcripts {
            // Of the working folder's path Claude CLI keeps letters and digits.
            let path = folder.join("work").to_string_lossy().into_owned();
            let name = path.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            match std::fs::remove_dir_all(transcripts.join(name)) {
                Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
                _ => {}
            }
        }
        std::fs::remove_dir_all(folder)
    }
}

impl Session {
    /// The id to go on with.
    pub fn id(&self) -> Option<&str> {
        self.note.session_id.as_deref()
    }

    /// What the next task of this context goes on with; none begins anew.
    pub fn remember(&mut self, id: Option<&str>) {
        if self.id() == id {
            return;
        }
        self.note.session_id = id.map(str::to_owned);
        if let Err(fault) = self.write() {
            log::warn!("a session is not remembered: {fault}");
        }
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(&serde_json::to_vec(&self.note)?)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Closing would not do: a child of another thread that has not begun its program yet holds a copy.
        if let Err(fault) = flock(&self.file, FlockOperation::Unlock) {
            log::warn!("a session is not let go of: {fault}");
        }
    }
}

/// A random id of the form that Claude CLI asks for (UUID, version 4).
pub fn new_id() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}

fn lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(fault) => Err(fault.into()),
    }
}

fn private_folder(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// A file name for any two texts (FNV-1a, 128 bits); the note tells whose it really is.
fn key(agent_slug: &str, context_id: &str) -> String {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0100_0000_0000_0000_0000_013b;
    let bytes = agent_slug.bytes().chain([0]).chain(context_id.bytes());
    let hash = bytes.fold(BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Sessions) {
        let place = tempfile::tempdir().unwrap();
        let home = [("HOME".into(), place.path().into())];
        let sessions = Sessions::new(place.path(), &home).unwrap();
        (place, sessions)
    }

    fn take(sessions: &Sessions, context_id: &str) -> Session {
        sessions.take("writer", context_id).unwrap().expect("nobody uses it")
    }

    #[test]
    fn a_context_goes_on_with_its_own_session_and_with_no_other() {
        let (_place, sessions) = place();
        let mut first = take(&sessions, "garden");
        assert_eq!(first.id(), None);
        first.remember(Some("s1"));
        let work = first.work.clone();
        drop(first);
        let mut again = take(&sessions, "garden");
        assert_eq!((again.id(), &again.work), (Some("s1"), &work));
        assert_eq!(take(&sessions, "kitchen").id(), None);
        assert_eq!(sessions.take("reviewer", "garden").unwrap().unwrap().id(), None);
        again.remember(None);
        drop(again);
        assert_eq!(take(&sessions, "garden").id(), None);
    }

    #[test]
    fn two_tasks_of_one_context_never_have_one_session_at_once() {
        let (place, sessions) = place();
        let held = take(&sessions, "garden");
        assert!(sessions.take("writer", "garden").unwrap().is_none());
        let other_worker = Sessions::new(place.path(), &[]).unwrap();
        assert!(other_worker.take("writer", "garden").unwrap().is_none());
        drop(held);
        assert!(other_worker.take("writer", "garden").unwrap().is_some());
    }

    #[test]
    fn a_note_of_another_context_or_cut_off_is_not_believed() {
        let (_place, sessions) = place();
        let mut session = take(&sessions, "garden");
        session.remember(Some("s1"));
        let note = session.work.with_file_name(NOTE);
        drop(session);
        let text = std::fs::read_to_string(&note).unwrap();
        for wrong in [text.replace("garden", "kitchen"), text[..20].into(), String::new()] {
            std::fs::write(&note, wrong).unwrap();
            assert_eq!(take(&sessions, "garden").id(), None);
        }
    }

    #[test]
    fn the_one_unused_for_longest_goes_with_its_transcripts_and_one_in_use_stays() {
        let (place, mut sessions) = place();
        sessions.kept_max = 2;
        let held = take(&sessions, "in use");
        let old = take(&sessions, "old").work.clone();
        let name = old.to_string_lossy().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let transcripts = place.path().join(".claude/projects");
        std::fs::create_dir_all(transcripts.join(&name)).unwrap();
        std::fs::create_dir_all(transcripts.join("another")).unwrap();
        // Both are older than what comes now.
        for folder in [&held.work, &old] {
            let note = File::options().write(true).open(folder.with_file_name(NOTE)).unwrap();
            note.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
        let fresh = take(&sessions, "new").work.clone();
        assert!(held.work.exists() && fresh.exists());
        drop(held);
        drop(take(&sessions, "newest"));
        let left = place.path().join("sessions").read_dir().unwrap().count();
        assert_eq!(left, 2);
        assert!(!old.exists() && !transcripts.join(&name).exists());
        assert!(transcripts.join("another").exists());
    }

    #[test]
    fn an_id_is_a_random_uuid() {
        let (one, other) = (new_id().unwrap(), new_id().unwrap());
        assert_ne!(one, other);
        let lengths: Vec<_> = one.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(&one[14..15], "4");
        assert!("89ab".contains(&one[19..20]));
    }
}
