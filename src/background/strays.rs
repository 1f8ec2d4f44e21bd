//! Removes the returned files that a crash left without a record, once after a start.
//!
//! Must stay true: only what was there before the start is looked at. Not here: which file a record names
//! (`store::files`).

use crate::engine::Engine;

pub async fn remove(engine: Engine) {
    match engine.read_aside(|query| query.remove_strays()).await {
        Ok(0) => {}
        Ok(files) => {
            log::info!("removed {files} returned files that a crash had left without a task")
        }
        Err(error) => log::warn!("returned files could not be looked through: {error}"),
    }
}
