//! An edit in ten lines.
//!
//! ```text
//! cargo run -p editmgt-examples --example edit -- MODEL PHOTO "make it red" OUT.png
//! ```
#![forbid(unsafe_code)]

use std::error::Error;

use editmgt::{EditRequest, Editor, HoldPolicy, Photo, SaveOptions, Silent, check_writable};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, photo, instruction, out] = &args[..] else {
        return Err("usage: edit MODEL PHOTO INSTRUCTION OUT".into());
    };
    let photo = Photo::open(photo)?;
    check_writable(out, photo.size(), &SaveOptions::default())?;
    let editor = Editor::builder(model).build()?;
    let hold = Some(HoldPolicy::Auto);
    let request = EditRequest { steps: Some(16), hold, ..EditRequest::new(instruction) };
    let result = editor.edit(&photo, None, &request, &mut Silent)?;
    result.image.save(out, &SaveOptions::default())?;
    println!("{:.1}% of the tokens were held", 100.0 * result.report.tokens_held);
    Ok(())
}
