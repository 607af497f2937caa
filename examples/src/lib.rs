//! The examples of this workspace are the files beside this folder.
#![forbid(unsafe_code)]

/// Photo, instruction and output file from the command line; without arguments a scene that the
/// small model knows, `instruction` and `edited.png`.
///
/// # Errors
/// The usage, for another number of arguments.
pub fn arguments(instruction: &str) -> Result<[String; 3], String> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.is_empty() {
        return Ok(["examples/scenes/scene.png", instruction, "edited.png"].map(str::to_owned));
    }
    args.try_into().map_err(|_| "usage: PHOTO INSTRUCTION OUT".to_owned())
}
