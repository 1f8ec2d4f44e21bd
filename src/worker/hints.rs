//! A task's context hints: notes, and files of this machine that the task may name.
//!
//! A hint that names a file below the root is that file's text, any other is a note. Must stay true:
//! nothing outside of the root is ever opened, whatever symlinks, `..` or absolute paths say, by the
//! kernel's own check and not by a look beforehand; what is read is bounded. Not here: how a prompt is
//! made of it ([`super::prompt`]).

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

/// The most hints of a task, whether notes or files.
const HINTS_MAX: usize = 64;
/// The largest file, and all files of a task together, in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024;
const ALL_BYTES_MAX: usize = 1024 * 1024;

/// Context for a prompt.
#[derive(Debug, PartialEq, Eq)]
pub enum Hint {
    Note(String),
    File { path: String, text: String },
}

/// Reads what the hints name below `root`; without a root all of them are notes. Errors: a hint that
/// is clearly meant as a file but cannot be given; the text says which and why.
pub fn read(hints: &[String], root: Option<&Path>) -> Result<Vec<Hint>, String> {
    if hints.len() > HINTS_MAX {
        return Err(format!("{} context hints are more than {HINTS_MAX}", hints.len()));
    }
    let Some(root) = root else {
        return Ok(hints.iter().cloned().map(Hint::Note).collect());
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty())
        .map_err(|fault| format!("the worker's --root cannot be opened: {fault}"))?;
    let (mut read, mut bytes) = (Vec::new(), 0);
    for hint in hints {
        let hint = read_one(hint, &root)?;
        if let Hint::File { path, text } = &hint {
            bytes += text.len();
            if bytes > ALL_BYTES_MAX {
                let limit = ALL_BYTES_MAX / 1024;
                return Err(format!("with {path:?} the files are more than {limit} KiB together"));
            }
        }
        read.push(hint);
    }
    Ok(read)
}

fn read_one(hint: &str, root: &OwnedFd) -> Result<Hint, String> {
    let named = hint.strip_prefix("file:").map(str::trim);
    let path = named.unwrap_or(hint);
    let note = || Ok(Hint::Note(hint.to_owned()));
    let bad = |why: &str| Err(format!("the context hint {path:?} {why}"));
    let file = match open_beneath(root, Path::new(path)) {
        Ok(file) => file,
        Err(_) if named.is_none() => return note(),
        Err(Errno::XDEV | Errno::LOOP) => return bad("leads outside of the worker's root"),
        Err(Errno::NOENT | Errno::NOTDIR) => return bad("names no file below the worker's root"),
        Err(fault) => return bad(&format!("cannot be opened: {fault}")),
    };
    match file.metadata() {
        Ok(about) if about.is_file() => {}
        _ if named.is_none() => return note(),
        _ => return bad("is not a plain file"),
    }
    let mut text = String::new();
    match file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text) {
        Ok(read) if read as u64 > FILE_BYTES_MAX => {
            bad(&format!("is larger than {} KiB", FILE_BYTES_MAX / 1024))
        }
        Ok(_) => Ok(Hint::File { path: path.to_owned(), text }),
        Err(fault) if fault.kind() == io::ErrorKind::InvalidData => bad("is not UTF-8 text"),
        Err(fault) => bad(&format!("cannot be read: {fault}")),
    }
}

/// Opened for reading, without waiting: what is there may be a pipe.
const READING: OFlags =
    OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Opens `path` if all the way to it stays below `root`.
fn open_beneath(root: &OwnedFd, path: &Path) -> rustix::io::Result<File> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{ResolveFlags, openat2};
        let stay = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match openat2(root, path, READING, Mode::empty(), stay) {
            // The kernel is older than 5.6, or a sandbox does not know the call.
            Err(Errno::NOSYS | Errno::PERM) => {}
            opened => return opened.map(File::from),
        }
    }
    open_step_by_step(root, path)
}

/// The same without the kernel's help: no symlink at all is followed.
fn open_step_by_step(root: &OwnedFd, path: &Path) -> rustix::io::Result<File> {
    let mut folder = root.try_clone().map_err(|_| Errno::MFILE)?;
    let mut steps = path.components().filter(|step| *step != Component::CurDir).peekable();
    while let Some(step) = steps.next() {
        let Component::Normal(name) = step else { return Err(Errno::XDEV) };
        let kind = if steps.peek().is_some() { OFlags::DIRECTORY } else { OFlags::empty() };
        folder = openat(&folder, name, READING | OFlags::NOFOLLOW | kind, Mode::empty())?;
    }
    Ok(File::from(folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A root with a file in a folder, beside a secret that links lead to.
    fn place() -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        std::fs::create_dir_all(root.join("notes")).unwrap();
        std::fs::write(place.path().join("secret"), "the secret").unwrap();
        std::fs::write(root.join("notes/a.md"), "the text").unwrap();
        std::fs::write(root.join("large"), "x".repeat(FILE_BYTES_MAX as usize + 1)).unwrap();
        std::fs::write(root.join("most"), "x".repeat(FILE_BYTES_MAX as usize)).unwrap();
        std::fs::write(root.join("binary"), [0xff, 0xfe]).unwrap();
        symlink("../secret", root.join("link")).unwrap();
        symlink(place.path().join("secret"), root.join("absolute")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("notes/a.md", root.join("inside")).unwrap();
        let pipe = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), pipe, Mode::RUSR, 0).unwrap();
        place
    }

    fn one(hint: &str, place: &tempfile::TempDir) -> Result<Hint, String> {
        let hints = [hint.to_owned()];
        read(&hints, Some(&place.path().join("root"))).map(|mut read| read.remove(0))
    }

    #[test]
    fn a_file_below_the_root_is_read_and_everything_else_is_a_note() {
        let place = place();
        let text = "the text".to_owned();
        for (hint, path) in [
            ("notes/a.md", "notes/a.md"),
            ("file: notes/a.md", "notes/a.md"),
            ("file:notes/../notes/a.md", "notes/../notes/a.md"),
            ("inside", "inside"),
        ] {
            let file = Hint::File { path: path.into(), text: text.clone() };
            assert_eq!(one(hint, &place), Ok(file), "{hint}");
        }
        for hint in ["lang: uk", "", ".", "notes", "nothing", "link", "../secret", "/etc/passwd"] {
            assert_eq!(one(hint, &place), Ok(Hint::Note(hint.into())), "{hint}");
        }
        let hints = ["file: /etc/passwd".to_owned()];
        assert_eq!(read(&hints, None), Ok(vec![Hint::Note(hints[0].clone())]), "no root, no files");
    }

    #[test]
    fn what_is_meant_as_a_file_but_cannot_be_given_is_refused() {
        let place = place();
        for (hint, why) in [
            ("file: ../secret", "outside"),
            ("file: notes/../../secret", "outside"),
            ("file: link", "outside"),
            ("file: absolute", "outside"),
            ("file: up/secret", "outside"),
            ("file: /etc/passwd", "outside"),
            ("file: /proc/self/root/etc/passwd", "outside"),
            ("file: nothing", "names no file"),
            ("file: notes/a.md/x", "names no file"),
            ("file: notes", "not a plain file"),
            ("file: pipe", "not a plain file"),
            ("file: binary", "not UTF-8"),
            ("file: large", "larger than 256 KiB"),
            ("large", "larger than 256 KiB"),
            ("file:", ""),
        ] {
            let fault = one(hint, &place).unwrap_err();
            assert!(fault.contains(why), "{hint}: {fault}");
        }
    }

    #[test]
    fn an_old_kernel_opens_no_more_than_a_new_one() {
        let place = place();
        let root = File::open(place.path().join("root")).unwrap().into();
        let open = |path: &str| open_step_by_step(&root, Path::new(path)).is_ok();
        assert!(open("notes/a.md") && open("./notes/a.md"));
        for path in ["link", "absolute", "up/secret", "../secret", "/etc/passwd", "inside", "none"]
        {
            assert!(!open(path), "{path}");
        }
    }

    #[test]
    fn files_and_hints_are_bounded_together() {
        let place = place();
        let root = place.path().join("root");
        let many = |hint: &str, count| read(&vec![hint.to_owned(); count], Some(&root));
        assert_eq!(many("most", 4).map(|read| read.len()), Ok(4));
        assert!(many("most", 5).unwrap_err().contains("more than 1024 KiB together"));
        assert!(many("a: note", HINTS_MAX).is_ok());
        assert!(many("a: note", HINTS_MAX + 1).unwrap_err().contains("more than 64"));
    }
}
