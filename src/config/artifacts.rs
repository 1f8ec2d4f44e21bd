//! How much workers may return as files (P9).
//!
//! Not here: where artifacts go (`s3`).

use super::ConfigError;
use super::number;
use super::sources::Sources;

/// Limits of returned files, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLimits {
    pub each: u64,
    pub all: u64,
}

impl FileLimits {
    /// `ARTIFACT_MB_MAX` and `ARTIFACTS_MB_MAX`, in MiB.
    pub(super) fn load(sources: &Sources<'_>) -> Result<FileLimits, ConfigError> {
        let mebibytes = |name, example, most, default: u32| {
            let found = sources.parsed(name, example, |text| number(text, most))?;
            Ok(u64::from(found.unwrap_or(default)) << 20)
        };
        Ok(FileLimits {
            each: mebibytes("ARTIFACT_MB_MAX", "100", 256, 100)?,
            all: mebibytes("ARTIFACTS_MB_MAX", "4096", 1 << 30, 4096)?,
        })
    }
}
