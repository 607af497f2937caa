//! The events of an edit.

use serde::Serialize;
use serde_json::json;

/// A server-sent event.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) name: &'static str,
    /// JSON in one line.
    pub(crate) data: String,
    /// Whether it is the last.
    pub(crate) last: bool,
}

impl Event {
    pub(crate) fn new(name: &'static str, data: &impl Serialize) -> Self {
        let data = serde_json::to_string(data).expect("an event has names, numbers and texts only");
        Self { name, data, last: false }
    }

    pub(crate) fn queued(position: usize) -> Self {
        Self::new("queued", &json!({ "position": position }))
    }
}
