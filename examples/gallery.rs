//! The first held-out scenes of the small model's world, edited: before, map, after, truth.
//!
//! ```text
//! cargo run --release -p editmgt-examples --example gallery -- docs/pictures
//! ```
//!
//! Scenes are not selected by their result. Prints a table in Markdown.
#![forbid(unsafe_code)]

use std::error::Error;
use std::path::Path;

use editmgt::{EditRequest, Editor, Photo};
use editmgt_world::{Category, trial};
use editmgt_world::{Split, World, WorldConfig};
use image::RgbImage;
use image::imageops::{FilterType, resize};

/// Enlargement factor of the images.
const ENLARGED: u32 = 2;

fn main() -> Result<(), Box<dyn Error>> {
    let out = std::env::args().nth(1).ok_or("usage: gallery FOLDER")?;
    std::fs::create_dir_all(&out)?;
    let editor = Editor::embedded().build()?;
    let world = World::new(WorldConfig::embedded())?;
    println!("| | before | where | after | the truth |");
    println!("|---|---|---|---|---|");
    // The categories alternate.
    for (index, category) in Category::ALL.into_iter().enumerate() {
        let request = EditRequest::default().score_map(true);
        let scene = (Split::Test, index as u64);
        let (trial, example, edited) = trial(&editor, &world, scene, &request)?;
        let overlay = edited.overlay(&Photo::from_rgb(example.pair.before.clone())?)?;
        let name = category.name();
        let save = |what: &str, image: &RgbImage| -> Result<String, Box<dyn Error>> {
            let path = Path::new(&out).join(format!("{name}-{what}.png"));
            let (width, height) = (image.width() * ENLARGED, image.height() * ENLARGED);
            resize(image, width, height, FilterType::Nearest).save(&path)?;
            Ok(format!("![{name}: {what}]({})", path.display()))
        };
        println!(
            "| {name}: \"{}\"{} | {} | {} | {} | {} |",
            trial.instruction,
            if trial.judgement.success { "" } else { " (fails)" },
            save("before", &example.pair.before)?,
            save("where", overlay.rgb())?,
            save("after", edited.image.rgb())?,
            save("truth", &example.pair.after)?,
        );
    }
    Ok(())
}
