//! The log: one line an event on stderr, with a UTC time, the level and the module.
//!
//! What must stay true: a log that cannot be written (a full disk, a closed pipe) stops nothing.
//! `simple_logger` prints with `eprintln!`, which panics then, so each line is printed under
//! `catch_unwind`; lines that were lost are counted and said with the next one that arrives. An event is
//! one line whatever it quotes: control characters are escaped, so nobody can forge a line or steer a
//! terminal.
//! Deliberately not here: files and rotation (the supervisor's), and logging from the panic hook, where
//! a second panic would abort the process.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};
use simple_logger::SimpleLogger;

#[cfg(not(panic = "unwind"))]
compile_error!("a full log disk would end the process: build with panic = \"unwind\"");

thread_local! {
    /// Whether a panic of this thread is expected (a line that cannot be printed, a damaged file): then
    /// it is no bug of ours and says nothing.
    static PANIC_EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Makes `log`'s macros print lines of `level` and above. For `main`, once; a second call changes
/// nothing.
pub fn start(level: LevelFilter) {
    // `log` itself keeps the level, so that it can change later.
    let inner = SimpleLogger::new().with_level(LevelFilter::Trace).with_utc_timestamps();
    if log::set_boxed_logger(Box::new(Guarded::new(inner))).is_err() {
        return;
    }
    log::set_max_level(level);
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !PANIC_EXPECTED.get() {
            usual(info);
        }
    }));
}

/// Runs what may panic on a damaged file, without the hook's noise; None when it did.
pub fn quietly<T>(run: impl FnOnce() -> T) -> Option<T> {
    let nested = PANIC_EXPECTED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(run)).ok();
    PANIC_EXPECTED.set(nested);
    result
}

/// A logger whose failure harms nobody but the line.
struct Guarded<L> {
    inner: L,
    lost_lines: AtomicU64,
}

impl<L: Log> Guarded<L> {
    fn new(inner: L) -> Self {
        Guarded { inner, lost_lines: AtomicU64::new(0) }
    }

    /// Whether the line was printed.
    fn print(&self, record: &Record) -> bool {
        let nested = PANIC_EXPECTED.replace(true);
        let printed = panic::catch_unwind(AssertUnwindSafe(|| self.inner.log(record))).is_ok();
        PANIC_EXPECTED.set(nested);
        printed
    }

    fn confess_lost_lines(&self) {
        let lost = self.lost_lines.swap(0, Ordering::Relaxed);
        if lost == 0 {
            return;
        }
        let printed = self.print(
            &Record::builder()
                .level(Level::Warn)
                .target(module_path!())
                .args(format_args!("{lost} log lines before the last one could not be written"))
                .build(),
        );
        if !printed {
            self.lost_lines.fetch_add(lost, Ordering::Relaxed);
        }
    }
}

impl<L: Log> Log for Guarded<L> {
    fn enabled(&self, metadata: &Metadata) -> bool {
        self.inner.enabled(metadata)
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // Outside of the guard: a panic while a message is put together is a bug, and must be heard.
        let message = escape(record.args().to_string());
        let printed = self.print(
            &Record::builder()
                .metadata(record.metadata().clone())
                .module_path(record.module_path())
                .args(format_args!("{message}"))
                .build(),
        );
        if printed {
            self.confess_lost_lines();
        } else {
            self.lost_lines.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {
        self.inner.flush();
    }
}

/// Control characters (C0, DEL, C1) and the Unicode line separators as `\n`, `\u{1b}` and so on.
fn escape(message: String) -> String {
    let is_plain = |c: char| !c.is_control() && c != '\u{2028}' && c != '\u{2029}';
    if message.chars().all(is_plain) {
        return message;
    }
    let mut escaped = String::with_capacity(message.len());
    for c in message.chars() {
        match c {
            '\u{2028}' | '\u{2029}' => escaped.extend(c.escape_unicode()),
            _ if c.is_control() => escaped.extend(c.escape_default()),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions};
    use std::process::{Command, Output, Stdio};
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    /// Keeps lines, and panics while its disk is full.
    #[derive(Default)]
    struct Disk {
        full: AtomicBool,
        lines: Mutex<Vec<String>>,
    }

    impl Log for &Disk {
        fn enabled(&self, _: &Metadata) -> bool {
            true
        }
        fn log(&self, record: &Record) {
            assert!(!self.full.load(Ordering::Relaxed), "failed printing to stderr");
            self.lines.lock().unwrap().push(record.args().to_string());
        }
        fn flush(&self) {}
    }

    fn say(logger: &dyn Log, message: &str) {
        logger.log(&Record::builder().args(format_args!("{message}")).build());
    }

    #[test]
    fn lost_lines_are_counted_and_said_once_there_is_space_again() {
        let disk = Disk::default();
        let logger = Guarded::new(&disk);
        disk.full.store(true, Ordering::Relaxed);
        say(&logger, "a");
        say(&logger, "b");
        disk.full.store(false, Ordering::Relaxed);
        say(&logger, "c");
        say(&logger, "d");
        let lines = disk.lines.lock().unwrap();
        assert_eq!(*lines, ["c", "2 log lines before the last one could not be written", "d"]);
    }

    #[test]
    fn nobody_can_forge_a_line() {
        let hostile = "GET /\r\nforged\x1b[2J\t\0\u{9b}x\u{7f}\u{2028}y ключ \\n";
        let line = escape(hostile.into());
        assert_eq!(line, "GET /\\r\\nforged\\u{1b}[2J\\t\\u{0}\\u{9b}x\\u{7f}\\u{2028}y ключ \\n");
    }

    /// Runs `a_child_that_logs` in a process of its own.
    fn child(stderr: Stdio) -> Output {
        Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "logging::tests::a_child_that_logs"])
            .stderr(stderr)
            .output()
            .unwrap()
    }

    #[test]
    #[ignore = "the child process of the tests below"]
    fn a_child_that_logs() {
        start(LevelFilter::Info);
        log::info!("first\nforged");
        log::debug!("not shown");
        for _ in 0..100 {
            log::error!("more");
        }
        let bug = panic::catch_unwind(|| panic!("a bug of ours"));
        assert!(bug.is_err());
        log::logger().flush();
        println!("still alive");
    }

    #[test]
    fn a_full_log_disk_stops_nothing() {
        let full: File = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = child(full.into());
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{stdout}");
        assert!(stdout.contains("still alive"), "{stdout}");
    }

    #[test]
    fn a_line_has_a_utc_time_and_other_panics_are_still_told() {
        let output = child(Stdio::piped());
        let stderr = String::from_utf8(output.stderr).unwrap();
        let mut lines = stderr.lines();
        let first = lines.next().unwrap();
        assert!(first.ends_with(r"] first\nforged"), "{first}");
        assert_eq!((&first[10..11], &first[23..25]), ("T", "Z "), "{first}");
        assert!(lines.next().unwrap().ends_with("more"));
        assert!(stderr.contains("a bug of ours"), "{stderr}");
        assert!(!stderr.contains("not shown"), "{stderr}");
    }
}
