use std::time::Instant;

use editmgt_core::{EditEvent, EditObserver, Error, Flow, LoopProgress, Result, Stage};

/// Runs the stages of an edit: tells the observer, measures.
pub(super) struct Stages<'a> {
    observer: &'a mut dyn EditObserver,
    steps: usize,
    /// How far sampling is; `None` before its first step.
    pub(super) progress: Option<LoopProgress>,
    /// Seconds that each stage took, in the order of their starts.
    pub(super) seconds: Vec<(Stage, f64)>,
}

impl<'a> Stages<'a> {
    pub(super) fn new(
        observer: &'a mut dyn EditObserver,
        steps: usize,
        progress: Option<LoopProgress>,
    ) -> Self {
        Self { observer, steps, progress, seconds: Vec::new() }
    }

    pub(super) fn run<T>(&mut self, stage: Stage, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.tell(EditEvent::StageStarted(stage))?;
        let start = Instant::now();
        let result = work()?;
        self.finish(stage, start)?;
        Ok(result)
    }

    /// The stage whose events the observer sees: `work` gets it, and gives where sampling ended.
    pub(super) fn sample(
        &mut self,
        work: impl FnOnce(&mut dyn EditObserver) -> Result<LoopProgress>,
    ) -> Result<LoopProgress> {
        self.tell(EditEvent::StageStarted(Stage::Sample))?;
        let start = Instant::now();
        let progress = work(self.observer)?;
        self.progress = Some(progress.clone());
        self.finish(Stage::Sample, start)?;
        Ok(progress)
    }

    fn finish(&mut self, stage: Stage, start: Instant) -> Result<()> {
        let seconds = start.elapsed().as_secs_f64();
        // A stage that runs again, for more images, is one stage of the report.
        match self.seconds.iter_mut().find(|(other, _)| *other == stage) {
            Some((_, sum)) => *sum += seconds,
            None => self.seconds.push((stage, seconds)),
        }
        self.tell(EditEvent::StageFinished(stage))
    }

    fn tell(&mut self, event: EditEvent<'_>) -> Result<()> {
        match self.observer.event(&event) {
            Flow::Continue => Ok(()),
            Flow::Stop => Err(Error::Stopped {
                completed: self.progress.as_ref().map_or(0, |progress| progress.completed),
                total: self.steps,
                progress: self.progress.clone().map(Box::new),
            }),
        }
    }
}
