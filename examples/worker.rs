//! A worker thread for each device, driven by channels: the pattern for servers, user interfaces
//! and async programs.
//!
//! Editing takes minutes of computing: in an async program it belongs on a separate thread, never
//! in a task. A worker owns its editor and takes jobs from a channel; each job has the sender for
//! its answers and a token that cancels it. Both kinds of sender work from async code without
//! blocking: replace `mpsc::Sender<Answer>` by the sender of your runtime (tokio's
//! `UnboundedSender`, `futures::channel::mpsc`), and nothing else changes.
//!
//! ```text
//! cargo run -p editmgt-examples --example worker -- MODEL OUT_FOLDER "make it red" PHOTO…
//! ```
#![forbid(unsafe_code)]

use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use editmgt::{
    EditError, EditEvent, EditRequest, EditResult, Editor, Flow, HoldPolicy, Photo, StoppedEdit,
};

/// Cancels a job from any thread, at any time.
#[derive(Clone, Default)]
struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn flow(&self) -> Flow {
        if self.0.load(Ordering::Relaxed) { Flow::Stop } else { Flow::Continue }
    }
}

struct Job {
    photo: Arc<Photo>,
    request: EditRequest,
    /// The progress of an earlier, cancelled job for the same request.
    from: Option<StoppedEdit>,
    cancel: CancelToken,
    answers: mpsc::Sender<Answer>,
}

enum Answer {
    Step {
        completed: usize,
        total: usize,
    },
    Done(Box<EditResult>),
    /// Cancelled; send this along with the request to resume.
    Cancelled(StoppedEdit),
    Failed(EditError),
}

/// Answers jobs until the other end of the channel is dropped.
fn work(editor: &Editor, jobs: mpsc::Receiver<Job>) {
    for Job { photo, request, from, cancel, answers } in jobs {
        // A dropped receiver cancels the edit.
        let mut observer = |event: &EditEvent<'_>| match event {
            EditEvent::Step { completed, total, .. } => {
                let step = Answer::Step { completed: *completed, total: *total };
                if answers.send(step).is_ok() { cancel.flow() } else { Flow::Stop }
            }
            _ => cancel.flow(),
        };
        // Cache the open photo, for instance in a map, if other jobs may need it.
        let photo = editor.open_photo(photo);
        let outcome = match from {
            Some(from) => photo.resume(&request, from, &mut observer),
            None => photo.edit_with(&request, observer),
        };
        let answer = match outcome {
            Ok(result) => Answer::Done(Box::new(result)),
            Err(EditError::Stopped(stopped)) => Answer::Cancelled(stopped),
            Err(error) => Answer::Failed(error),
        };
        // The receiver may be gone, which is not the worker's concern.
        let _gone = answers.send(answer);
    }
}

/// A thread that loads the model onto one device and works there.
fn spawn(model: PathBuf, device: String) -> (mpsc::Sender<Job>, JoinHandle<Result<(), EditError>>) {
    let (sender, jobs) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let device = editmgt::open_device(&device)?;
        work(&Editor::builder(model).device(device).build()?, jobs);
        Ok(())
    });
    (sender, thread)
}

/// Follows one job to its end; cancels it after two steps the first time, to demonstrate resuming.
fn follow(worker: &mpsc::Sender<Job>, photo: Arc<Photo>, request: &EditRequest) -> Option<Answer> {
    let mut from = None;
    for first in [true, false] {
        let (sender, answers) = mpsc::channel();
        let cancel = CancelToken::default();
        let (photo, request) = (photo.clone(), request.clone());
        let job = Job { photo, request, from, cancel: cancel.clone(), answers: sender };
        worker.send(job).ok()?;
        from = None;
        for answer in answers {
            match answer {
                Answer::Step { completed, total } => {
                    println!("step {completed} of {total}");
                    if first && completed == 2 {
                        cancel.cancel();
                    }
                }
                Answer::Cancelled(stopped) => from = Some(stopped),
                end => return Some(end),
            }
        }
        println!("cancelled; resuming");
    }
    None
}

fn main() -> Result<(), Box<dyn StdError>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, folder, instruction, photos @ ..] = &args[..] else {
        return Err("usage: worker MODEL OUT_FOLDER INSTRUCTION PHOTO…".into());
    };
    let request = EditRequest::new(instruction).hold(HoldPolicy::Auto);
    // One worker here; spawn one for each device that `editmgt devices` lists as ready.
    let (worker, thread) = spawn(model.into(), "cpu".into());
    for path in photos {
        let photo = Arc::new(Photo::open(path)?);
        let name = Path::new(path).file_stem().unwrap_or_default();
        match follow(&worker, photo, &request) {
            Some(Answer::Done(result)) => {
                let out = Path::new(folder).join(name).with_extension("png");
                result.image.save(&out)?;
                println!("{}", out.display());
            }
            Some(Answer::Failed(error)) => eprintln!("{path}: {error}"),
            // The worker ended: its error has the reason.
            _ => break,
        }
    }
    drop(worker);
    thread.join().map_err(|_| "the worker panicked")??;
    Ok(())
}
