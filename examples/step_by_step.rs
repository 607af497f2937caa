//! An edit that is watched: previews every few steps, and stops on a condition.
//!
//! ```text
//! cargo run -p editmgt-examples --example step_by_step -- MODEL PHOTO "make it red" OUT_FOLDER
//! ```
#![forbid(unsafe_code)]

use std::error::Error as StdError;
use std::path::Path;

use editmgt::{
    EditError, EditEvent, EditRequest, Editor, Error, Flow, HoldPolicy, Photo, PixelSize,
    ResizePlan, SaveOptions, TokenGrid, VqCodec,
};

/// Decodes the model's guess for the whole canvas, at the codec's own size.
fn preview(
    codec: &dyn VqCodec,
    predicted: &TokenGrid,
    path: &Path,
) -> Result<(), Box<dyn StdError>> {
    let factor = codec.spec().downsample_factor;
    let (height, width) = (predicted.size().height * factor, predicted.size().width * factor);
    let plan = ResizePlan::native(PixelSize::new(height, width), factor)?;
    Photo::from_rgb(plan.invert(codec.decode(predicted)?)?)?.save(path, &SaveOptions::default())?;
    Ok(())
}

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

    // Any closure from event to flow is an observer.
    let mut observer = |event: &EditEvent<'_>| match event {
        EditEvent::Step { completed, total, predicted, masked, held, .. } => {
            println!("step {completed} of {total}: {masked} masked, {:.0}% held", 100.0 * held);
            if completed % 4 == 0 {
                let path = folder.join(format!("step-{completed:02}.png"));
                if let Err(error) = preview(&*editor.model().codec, predicted, &path) {
                    eprintln!("no preview: {error}");
                    return Flow::Stop;
                }
            }
            Flow::Continue
        }
        EditEvent::StageStarted(stage) => {
            println!("{stage:?}");
            Flow::Continue
        }
        _ => Flow::Continue,
    };
    match editor.edit(&photo, None, &request, &mut observer) {
        Ok(result) => result.image.save(folder.join("edit.png"), &SaveOptions::default())?,
        Err(EditError::Stage(Error::Stopped { completed, total })) => {
            println!("stopped after {completed} of {total} steps; nothing was written");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
