//! How far an edit is, how it ends and what it leaves.

use std::sync::Arc;

use editmgt::{EditResult, Photo, StoppedEdit};
use serde::Serialize;
use utoipa::ToSchema;

use crate::disk::Archive;
use crate::error::ApiError;

/// How far an edit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Queued,
    Running,
    Done,
    Stopped,
    Failed,
}

impl Status {
    /// Whether nothing more will happen.
    pub(crate) fn has_ended(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// As in JSON, and the name of the event that ends an edit.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

/// What a done edit left.
#[derive(Clone)]
pub(crate) enum Outcome {
    /// In memory.
    Live(Arc<EditResult>),
    /// In a folder.
    Archived(Arc<Archive>),
}

impl Outcome {
    /// The edited photo.
    ///
    /// # Errors
    /// Status 500 where its file can't be read.
    pub(super) fn image(&self) -> Result<Photo, ApiError> {
        match self {
            Self::Live(result) => Ok(result.image.clone()),
            Self::Archived(archive) => {
                Photo::from_bytes(&archive.result()?).map_err(ApiError::internal)
            }
        }
    }
}

/// How an edit ended.
pub(crate) enum Ending {
    /// With a result.
    Done(Box<EditResult>),
    /// The first step of a look is done.
    Looked,
    /// Before its end.
    Stopped(Option<StoppedEdit>),
    /// With an error.
    Failed(ApiError),
}

impl Ending {
    /// The status of an edit that ended so.
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Done(_) | Self::Looked => Status::Done,
            Self::Stopped(_) => Status::Stopped,
            Self::Failed(_) => Status::Failed,
        }
    }
}
