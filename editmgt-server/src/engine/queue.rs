//! The queue of jobs, with an estimate of their time.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Job, work};
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::sync::lock;

/// Weight of the latest edit in the estimate of speed.
const LATEST: f64 = 0.5;

/// A job that waits.
struct Waiting {
    job: Job,
    since: Instant,
}

/// Jobs that wait, and the one that runs.
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    wake: Condvar,
    most: usize,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Waiting>,
    running: Option<Job>,
    closed: bool,
    /// By model.
    speeds: HashMap<usize, Speed>,
    /// Models whose speed is to be measured when there is no job.
    unmeasured: VecDeque<usize>,
}

/// Seconds of a pass of the transformer over a thousand pixels.
#[derive(Clone, Copy)]
struct Speed {
    seconds: f64,
    /// Measured before the first job.
    is_rough: bool,
}

/// What the worker does next.
pub(super) enum Next {
    /// A job, and how long it waited.
    Run(Job, Duration),
    /// Measure the speed of a model.
    Measure(usize),
}

impl Inner {
    fn len(&self) -> usize {
        self.waiting.len() + usize::from(self.running.is_some())
    }

    /// Tells the jobs that wait how many are before them.
    fn tell_positions(&self) {
        let before = usize::from(self.running.is_some());
        for (i, waiting) in self.waiting.iter().enumerate() {
            waiting.job.set_position(before + i);
        }
    }

    /// Seconds until all have ended, roughly.
    fn seconds(&self) -> f64 {
        let jobs = self.running.iter().chain(self.waiting.iter().map(|waiting| &waiting.job));
        jobs.map(|job| self.estimate(job.model(), job.work()).unwrap_or(5.0)).sum()
    }

    fn estimate(&self, model: usize, work: f64) -> Option<f64> {
        self.speeds.get(&model).map(|speed| speed.seconds * work)
    }
}

impl Queue {
    /// A queue of at most `most` jobs; those that end before they run are counted in `metrics`.
    pub(crate) fn new(most: usize, metrics: Arc<Metrics>) -> Self {
        Self { inner: Mutex::default(), wake: Condvar::new(), most, metrics }
    }

    /// Appends jobs, all or none.
    ///
    /// # Errors
    /// Status 429 when there is no room, 503 when the server shuts down.
    pub(crate) fn push(&self, jobs: Vec<Job>) -> Result<(), ApiError> {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Err(ApiError::stopping());
        }
        if inner.len() + jobs.len() > self.most {
            return Err(ApiError::queue_full((inner.seconds().ceil() as u64).clamp(1, 600)));
        }
        let since = Instant::now();
        inner.waiting.extend(jobs.into_iter().map(|job| Waiting { job, since }));
        inner.tell_positions();
        self.wake.notify_one();
        Ok(())
    }

    /// Jobs that run or wait.
    pub(crate) fn len(&self) -> usize {
        lock(&self.inner).len()
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.inner).closed
    }

    /// The model of the job that runs.
    pub(crate) fn running_model(&self) -> Option<usize> {
        lock(&self.inner).running.as_ref().map(Job::model)
    }

    /// Measures the speed of a model that was loaded, when no job waits.
    pub(crate) fn measure(&self, model: usize) {
        let mut inner = lock(&self.inner);
        if !inner.speeds.contains_key(&model) && !inner.unmeasured.contains(&model) {
            inner.unmeasured.push_back(model);
            self.wake.notify_one();
        }
    }

    /// Whether a measurement has to end.
    pub(super) fn is_needed(&self) -> bool {
        let inner = lock(&self.inner);
        inner.closed || !inner.waiting.is_empty()
    }

    /// The speed of a model, unless a job has said it.
    pub(super) fn measured(&self, model: usize, seconds: f64) {
        let speed = Speed { seconds, is_rough: true };
        lock(&self.inner).speeds.entry(model).or_insert(speed);
    }

    /// Estimated seconds of an edit with these passes over a model's image of these pixels.
    pub(crate) fn seconds(&self, model: usize, passes: usize, pixels: usize) -> Option<f64> {
        lock(&self.inner).estimate(model, work(passes, pixels))
    }

    /// Stops a job after the step that runs; one that waits at once.
    pub(crate) fn cancel(&self, job: &Job) {
        job.request_stop();
        let mut inner = lock(&self.inner);
        let Some(at) = inner.waiting.iter().position(|other| other.job.id() == job.id()) else {
            return;
        };
        // Before it leaves the queue: who sees it gone sees it counted.
        job.count_unstarted(&self.metrics);
        inner.waiting.remove(at);
        inner.tell_positions();
        drop(inner);
        job.end_unstarted();
    }

    /// Takes no more jobs, ends those that wait and stops the one that runs.
    pub(crate) fn close(&self) {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        inner.waiting.iter().for_each(|waiting| waiting.job.count_unstarted(&self.metrics));
        let waiting = std::mem::take(&mut inner.waiting);
        if let Some(running) = &inner.running {
            running.request_stop();
        }
        drop(inner);
        for Waiting { job, .. } in waiting {
            job.end_unstarted();
        }
        self.wake.notify_all();
    }

    /// Waits for something to do; `None` when the queue is closed.
    pub(super) fn next(&self) -> Option<Next> {
        let mut inner = lock(&self.inner);
        loop {
            if inner.closed {
                return None;
            }
            if let Some(Waiting { job, since }) = inner.waiting.pop_front() {
                job.start();
                inner.running = Some(job.clone());
                inner.tell_positions();
                return Some(Next::Run(job, since.elapsed()));
            }
            if let Some(model) = inner.unmeasured.pop_front() {
                return Some(Next::Measure(model));
            }
            inner = self.wake.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The running job has ended; `seconds` of it, where they say how fast its model is.
    pub(super) fn ended(&self, seconds: Option<f64>) {
        let mut inner = lock(&self.inner);
        if let (Some(job), Some(seconds)) = (inner.running.take(), seconds) {
            let latest = seconds / job.work();
            let seconds = match inner.speeds.get(&job.model()) {
                Some(speed) if !speed.is_rough => LATEST * latest + (1.0 - LATEST) * speed.seconds,
                _ => latest,
            };
            inner.speeds.insert(job.model(), Speed { seconds, is_rough: false });
        }
        inner.tell_positions();
    }
}
