//! Files without the machine's page cache, as after power came back.

use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::path::Path;

/// Takes the files of this folder out of the page cache and says how it was done.
pub fn drop_caches(dir: &Path) -> &'static str {
    // Only what is on disk can be let go of.
    rustix::fs::sync();
    if std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok() {
        return "drop_caches";
    }
    for entry in std::fs::read_dir(dir).expect("the data directory") {
        let file = File::open(entry.expect("readable").path()).expect("readable");
        fadvise(&file, 0, None, Advice::DontNeed).expect("a file");
    }
    "posix_fadvise"
}
