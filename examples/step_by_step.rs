//! An edit that is watched: previews every few steps, and stops on a condition.
//!
//! ```text
//! cargo run -p editmgt-examples --example step_by_step -- MODEL PHOTO "make it red" OUT_FOLDER
//! ```
#![forbid(unsafe_code)]

use std::error::Error as StdError;
use std::path::Path;

use editmgt::{
    EditError, EditEvent, EditRequest, Editor, Error, Flow, HoldPolicy, Photo, Previews,
    SaveOptions, preview_photo,
};

fn main() -> Result<(), Box<dyn StdError>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, photo, instruction, folder] = &args[..] else {
        return Err("usage: step_by_step MODEL PHOTO INSTRUCTION OUT_FOLDER".into());
    };
    let folder = Path::new(folder);
    let photo = Photo::open(photo)?;
    let editor = Editor::builder(model).build()?;
    let hold = Some(HoldPolicy::Auto);
    let request = EditRequest { steps: Some(12), hold, ..EditRequest::new(instruction) };

    // Any closure from event to flow is an observer; `Previews` asks for pictures on its behalf.
    let mut observer = Previews::every(4, |event: &EditEvent<'_>| match event {
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
            match preview_photo(image).map(|photo| photo.save(path, &SaveOptions::default())) {
                Ok(Ok(())) => Flow::Continue,
                problem => {
                    eprintln!("no preview: {problem:?}");
                    Flow::Stop
                }
            }
        }
        _ => Flow::Continue,
    });
    match editor.edit(&photo, None, &request, &mut observer) {
        Ok(result) => result.image.save(folder.join("edit.png"), &SaveOptions::default())?,
        Err(EditError::Stage(Error::Stopped { completed, total, .. })) => {
            println!("stopped after {completed} of {total} steps; nothing was written");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
