//! An edit in ten lines.
//!
//! ```text
//! cargo run -p editmgt-examples --example edit -- MODEL PHOTO "make it red" OUT.png
//! ```
#![forbid(unsafe_code)]

use std::error::Error;

use editmgt::{EditRequest, Editor, HoldPolicy, Photo};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, photo, instruction, out] = &args[..] else {
        return Err("usage: edit MODEL PHOTO INSTRUCTION OUT".into());
    };
    let request = EditRequest::new(instruction).hold(HoldPolicy::Auto).steps(16);
    let result = Editor::open(model)?.edit(&Photo::open(photo)?, request)?;
    result.image.save(out)?;
    println!("{:.1}% of the tokens were held", 100.0 * result.report.tokens_held);
    Ok(())
}
