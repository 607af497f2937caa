//! Edits in an async program: two photos, one after the other, with progress; a future that is
//! dropped stops its edit: `cargo run -p editmgt-examples --example async_edit -- [PHOTO
//! INSTRUCTION OUT]`
#![forbid(unsafe_code)]

use std::sync::Arc;

use editmgt::{EditError, EditEvent, EditRequest, EditResult, Editor, Flow, Photo};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinError, spawn_blocking};

/// Step and number of steps.
type Progress = (usize, usize);

/// Edits on a thread for blocking work, as an edit computes for seconds. The editor and the photo
/// are shared, not copied.
///
/// # Errors
/// [`JoinError`] where the edit panicked; within, those of [`Editor::edit_with`].
pub(crate) async fn edit(
    editor: Editor,
    photo: Arc<Photo>,
    request: EditRequest,
    progress: mpsc::UnboundedSender<Progress>,
) -> Result<Result<EditResult, EditError>, JoinError> {
    // `_alive` is dropped with this future, and the edit stops after its step.
    let (dropped, _alive) = oneshot::channel::<()>();
    let observer = move |event: &EditEvent<'_>| {
        if let EditEvent::Step { completed, total, .. } = *event {
            // An edit continues when progress is no longer listened to.
            progress.send((completed, total)).ok();
        }
        if dropped.is_closed() { Flow::Stop } else { Flow::Continue }
    };
    spawn_blocking(move || editor.edit_with(&photo, &request, observer)).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [photo, instruction, out] = editmgt_examples::arguments("make the red car blue")?;
    let editor = spawn_blocking(|| Editor::embedded().build()).await??;
    let photo = Arc::new(Photo::open(photo)?);
    // An edit uses all cores: more than one at once only costs memory.
    let turns = Semaphore::new(1);
    let one = |seed| {
        let request = EditRequest::new(&*instruction).seed(seed).steps(4);
        let (editor, photo, turns) = (editor.clone(), photo.clone(), &turns);
        async move {
            let _turn = turns.acquire().await;
            let (sender, mut progress) = mpsc::unbounded_channel();
            let print = async {
                while let Some((completed, total)) = progress.recv().await {
                    println!("seed {seed}: {completed} of {total}");
                }
            };
            tokio::join!(edit(editor, photo, request, sender), print).0
        }
    };
    let (first, second) = tokio::join!(one(1), one(2));
    println!("the other edit changed {} tokens", second??.report.tokens_changed);
    Ok(first??.image.save(out)?)
}
