//! An edit that is watched: previews every few steps, and stops on a condition.
//!
//! ```text
//! cargo run -p editmgt-examples --example step_by_step -- MODEL PHOTO "make it red" OUT_FOLDER
//! ```
#![forbid(unsafe_code)]

use std::error::Error as StdError;
use std::path::Path;

use editmgt::{
    EditError, EditEvent, EditRequest, Editor, Flow, HoldPolicy, Photo, Previews, preview_photo,
};

fn main() -> Result<(), Box<dyn StdError>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, photo, instruction, folder] = &args[..] else {
        return Err("usage: step_by_step MODEL PHOTO INSTRUCTION OUT_FOLDER".into());
    };
    let folder = Path::new(folder);
    let photo = Photo::open(photo)?;
    let editor = Editor::open(model)?;
    let request = EditRequest::new(instruction).steps(12).hold(HoldPolicy::Auto);

    // Any closure from event to flow is an observer; `Previews` additionally requests images.
    let observer = Previews::every(4, |event: &EditEvent<'_>| match event {
        EditEvent::StageStarted(stage) => {
            println!("{stage:?}");
            Flow::Continue
        }
        EditEvent::Step { completed, total, masked, held, .. } => {
            println!("step {completed} of {total}: {masked} masked, {:.0}% held", 100.0 * held);
            Flow::Continue
        }
        EditEvent::Preview { completed, image, .. } => {
            let path = folder.join(format!("step-{completed:02}.png"));
            match preview_photo(image).map(|photo| photo.save(path)) {
                Ok(Ok(())) => Flow::Continue,
                problem => {
                    eprintln!("no preview: {problem:?}");
                    Flow::Stop
                }
            }
        }
        _ => Flow::Continue,
    });
    match editor.edit_with(&photo, &request, observer) {
        Ok(result) => result.image.save(folder.join("edit.png"))?,
        Err(EditError::Stopped(stopped)) => println!("{stopped}; nothing was written"),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
