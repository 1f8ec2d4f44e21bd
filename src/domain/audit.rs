//! What happened, in the words of the audit trail and of the event stream (`CONTRACT §2`).
//!
//! Must stay true: every change has one event kind; the trail's action is that kind's word. No
//! secret is ever a part of a detail (P10). Not here: ids, times and sequences, which the engine
//! gives when it commits.

/// The kind of a change, as events and audit entries name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    TaskCreated,
    TaskLeased,
    TaskRunning,
    TaskCompleted,
    TaskRequeued,
    TaskCancelled,
    TaskReleased,
    ArtifactAdded,
    LeaseExpired,
    WorkerRegistered,
    WorkerUpdated,
    WorkerRemoved,
    WorkerOffline,
    WorkerOnline,
    WorkerCooling,
    WorkerReady,
    WorkerDrained,
    WorkerUndrained,
    ConfigUpdated,
    ConnectionTest,
    ConnectionChanged,
    LeadershipPromote,
    TasksRemoved,
    SignedIn,
    SignedOut,
}

impl EventKind {
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::TaskCreated => "task_created",
            EventKind::TaskLeased => "task_leased",
            EventKind::TaskRunning => "task_running",
            EventKind::TaskCompleted => "task_completed",
            EventKind::TaskRequeued => "task_requeued",
            EventKind::TaskCancelled => "task_cancelled",
            EventKind::TaskReleased => "task_released",
            EventKind::ArtifactAdded => "artifact_added",
            EventKind::LeaseExpired => "lease_expired",
            EventKind::WorkerRegistered => "worker_registered",
            EventKind::WorkerUpdated => "worker_updated",
            EventKind::WorkerRemoved => "worker_removed",
            EventKind::WorkerOffline => "worker_offline",
            EventKind::WorkerOnline => "worker_online",
            EventKind::WorkerCooling => "worker_cooling",
            EventKind::WorkerReady => "worker_ready",
            EventKind::WorkerDrained => "worker_drained",
            EventKind::WorkerUndrained => "worker_undrained",
            EventKind::ConfigUpdated => "config_updated",
            EventKind::ConnectionTest => "connection_test",
            EventKind::ConnectionChanged => "connection_changed",
            EventKind::LeadershipPromote => "leadership_promote",
            EventKind::TasksRemoved => "tasks_removed",
            EventKind::SignedIn => "signed_in",
            EventKind::SignedOut => "signed_out",
        }
    }
}

/// What an audit entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entity {
    Task,
    Lease,
    Worker,
    Config,
    Project,
    Retention,
    Session,
}

impl Entity {
    pub fn as_str(self) -> &'static str {
        match self {
            Entity::Task => "llm_task",
            Entity::Lease => "lease",
            Entity::Worker => "worker",
            Entity::Config => "runtime_config",
            Entity::Project => "membridge_project",
            Entity::Retention => "retention",
            Entity::Session => "session",
        }
    }
}

/// An audit entry before the engine gives it its place and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    pub entity: Entity,
    pub entity_id: String,
    pub actor: String,
    pub detail: String,
}

impl Audit {
    /// About the settings, of which there is one record.
    pub fn of_config(actor: &str, detail: String) -> Audit {
        let (entity, entity_id) = (Entity::Config, "singleton".into());
        Audit { entity, entity_id, actor: actor.into(), detail }
    }
}
