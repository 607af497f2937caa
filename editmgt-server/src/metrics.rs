//! Metrics in the text format of Prometheus.

use std::fmt;

use editmgt::Stage;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::store::Usage;

/// Upper bounds of the buckets of seconds.
const SECONDS: [f64; 12] = [0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

type Labels = Vec<(&'static str, &'static str)>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// What the server counts.
pub(crate) struct Metrics {
    registry: Registry,
    edits: Family<Labels, Counter>,
    edit_seconds: Histograms,
    generations: Family<Labels, Counter>,
    generation_seconds: Histograms,
    queue_seconds: Histogram,
    stage_seconds: Histograms,
    requests: Family<Vec<(&'static str, String)>, Counter>,
    connections: Gauge,
    queue: Gauge,
    photos: Gauge,
    kept_edits: Gauge,
    kept_bytes: Gauge,
    models: Gauge,
    model_bytes: Gauge,
    resident_bytes: Gauge,
}

fn histogram() -> Histogram {
    Histogram::new(SECONDS)
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("editmgt");
        let histograms = || Histograms::new_with_constructor(histogram as fn() -> Histogram);
        let (edits, generations, requests) =
            (Family::default(), Family::default(), Family::default());
        let (edit_seconds, generation_seconds) = (histograms(), histograms());
        let (queue_seconds, stage_seconds) = (histogram(), histograms());
        registry.register("edits", "Edits that ended, by status", Family::clone(&edits));
        registry.register("edit_seconds", "Seconds of an edit, by status", edit_seconds.clone());
        let help = "Requests for images from text that ended, by status";
        registry.register("generations", help, Family::clone(&generations));
        let help = "Seconds of a request for images from text, by status";
        registry.register("generation_seconds", help, generation_seconds.clone());
        let help = "Seconds that an edit or a request for images waited before it ran";
        registry.register("queue_seconds", help, queue_seconds.clone());
        registry.register("stage_seconds", "Seconds of a stage", stage_seconds.clone());
        registry.register("requests", "Answers, by status", Family::clone(&requests));
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, Gauge::clone(&gauge));
            gauge
        };
        let connections = gauge("connections", "Open connections");
        let queue = gauge("queue", "Edits and generations that run or wait");
        let photos = gauge("photos", "Photos that are kept");
        let kept_edits = gauge("kept_edits", "Edits that are kept");
        let kept_bytes = gauge("kept_bytes", "Bytes of photos, masks and results that are kept");
        let models = gauge("models", "Models that are loaded");
        let model_bytes = gauge("model_bytes", "Bytes of the weights of loaded models");
        let resident_bytes = gauge("resident_bytes", "Memory of the process; 0 where unknown");
        Self {
            registry,
            edits,
            edit_seconds,
            generations,
            generation_seconds,
            queue_seconds,
            stage_seconds,
            requests,
            connections,
            queue,
            photos,
            kept_edits,
            kept_bytes,
            models,
            model_bytes,
            resident_bytes,
        }
    }

    pub(crate) fn edit(&self, status: &'static str, seconds: f64) {
        let labels = vec![("status", status)];
        self.edits.get_or_create(&labels).inc();
        self.edit_seconds.get_or_create(&labels).observe(seconds);
    }

    pub(crate) fn generation(&self, status: &'static str, seconds: f64) {
        let labels = vec![("status", status)];
        self.generations.get_or_create(&labels).inc();
        self.generation_seconds.get_or_create(&labels).observe(seconds);
    }

    /// An edit was stopped while it waited: it counts, but took no seconds.
    pub(crate) fn unstarted_edit(&self) {
        self.edits.get_or_create(&vec![("status", "stopped")]).inc();
    }

    /// A generation was stopped while it waited.
    pub(crate) fn unstarted_generation(&self) {
        self.generations.get_or_create(&vec![("status", "stopped")]).inc();
    }

    /// A job has waited and runs now.
    pub(crate) fn waited(&self, seconds: f64) {
        self.queue_seconds.observe(seconds);
    }

    pub(crate) fn stages(&self, seconds: &[(Stage, f64)]) {
        for (stage, seconds) in seconds {
            let name = match stage {
                Stage::EncodeText => "encode_text",
                Stage::EncodeImage => "encode_image",
                Stage::Sample => "sample",
                Stage::Decode => "decode",
                _ => "other",
            };
            self.stage_seconds.get_or_create(&vec![("stage", name)]).observe(*seconds);
        }
    }

    pub(crate) fn request(&self, status: u16) {
        self.requests.get_or_create(&vec![("status", status.to_string())]).inc();
    }

    pub(crate) fn connection(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }

    /// All metrics as text.
    ///
    /// # Errors
    /// None in practice: a text takes all that is written.
    pub(crate) fn encode(
        &self,
        usage: Usage,
        queue: usize,
        (models, model_bytes): (usize, u64),
    ) -> Result<String, fmt::Error> {
        self.queue.set(queue as i64);
        self.models.set(models as i64);
        self.model_bytes.set(model_bytes as i64);
        self.photos.set(usage.photos as i64);
        self.kept_edits.set(usage.edits as i64);
        self.kept_bytes.set(usage.bytes as i64);
        let resident = editmgt_backends::resident_memory().unwrap_or(0);
        self.resident_bytes.set(resident.try_into().unwrap_or(i64::MAX));
        let mut encoded = String::new();
        text::encode(&mut encoded, &self.registry)?;
        Ok(encoded)
    }
}

/// Counts a connection until it is dropped.
pub(crate) struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_their_labels() {
        let metrics = Metrics::new();
        metrics.edit("done", 0.2);
        metrics.generation("failed", 0.2);
        metrics.waited(0.3);
        metrics.stages(&[(Stage::Sample, 0.1)]);
        metrics.request(429);
        let connection = metrics.connection();
        let usage = Usage { photos: 1, edits: 2, bytes: 300 };
        let text = metrics.encode(usage, 3, (1, 500)).unwrap();
        for line in [
            "editmgt_edits_total{status=\"done\"} 1",
            "editmgt_generations_total{status=\"failed\"} 1",
            "editmgt_model_bytes 500",
            "editmgt_queue_seconds_bucket{le=\"0.1\"} 0",
            "editmgt_queue_seconds_bucket{le=\"0.5\"} 1",
            "editmgt_stage_seconds_count{stage=\"sample\"} 1",
            "editmgt_requests_total{status=\"429\"} 1",
            "editmgt_connections 1",
            "editmgt_queue 3",
            "editmgt_kept_bytes 300",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
        }
        drop(connection);
        assert!(metrics.encode(usage, 0, (0, 0)).unwrap().contains("editmgt_connections 0"));
    }
}
