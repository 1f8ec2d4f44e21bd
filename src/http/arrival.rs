//! Reading a body piece by piece, for what is too large to be held (P9).
//!
//! Must stay true: who sends slower than `BYTES_AT_LEAST` in `WINDOW` is cut off, however long the body
//! is. Not here: bodies that are read as a whole (`body`), how large one may be.

use super::error::ApiError;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Bytes};
use std::pin::Pin;
use std::time::Duration;
use tokio::time::{Sleep, sleep};

const WINDOW: Duration = Duration::from_secs(20);
const BYTES_AT_LEAST: usize = 64 << 10;

/// How fast a body comes.
pub struct Pace {
    window: Pin<Box<Sleep>>,
    bytes: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { window: Box::pin(sleep(WINDOW)), bytes: 0 }
    }
}

/// The next piece, or none at the end.
pub async fn next_piece<B>(body: &mut B, pace: &mut Pace) -> Result<Option<Bytes>, ApiError>
where
    B: Body<Data = Bytes> + Unpin,
{
    loop {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            () = pace.window.as_mut() => {
                let text = "The body did not arrive in time";
                let status = StatusCode::REQUEST_TIMEOUT;
                return Err(ApiError::unreadable(status, "body_timeout", text).closing());
            }
        };
        let Some(frame) = frame else { return Ok(None) };
        let frame = frame.map_err(|_| {
            let text = "The body broke off";
            ApiError::unreadable(StatusCode::BAD_REQUEST, "body_cut_off", text).closing()
        })?;
        let Ok(data) = frame.into_data() else { continue };
        pace.bytes += data.len();
        if pace.bytes >= BYTES_AT_LEAST {
            *pace = Pace::default();
        }
        return Ok(Some(data));
    }
}
