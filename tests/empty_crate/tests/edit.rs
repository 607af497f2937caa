//! Edits a photo with the embedded model and a custom scheduler.
#![forbid(unsafe_code)]

use editmgt::{Editor, Photo};
use empty_crate::AllAtOnce;

#[test]
fn custom_scheduler_edits_a_photo_with_the_embedded_model() {
    let editor = Editor::embedded().scheduler(AllAtOnce).build().unwrap();
    let photo = Photo::open("scene.png").unwrap();
    let result = editor.edit(&photo, "make the red car blue").unwrap();

    assert_eq!(result.report.custom_stages, ["scheduler"]);
    assert_eq!(result.image.size(), photo.size());
    let before = blue_pixels(&photo);
    let after = blue_pixels(&result.image);
    assert!(after > before + 50, "blue pixels: {before} before the edit, {after} after");
    let saved = std::env::temp_dir().join(format!("empty-crate-{}.png", std::process::id()));
    result.image.save(&saved).unwrap();
    assert_eq!(Photo::open(&saved).unwrap().rgb(), result.image.rgb());
    std::fs::remove_file(saved).unwrap();
}

/// The number of pixels that are clearly more blue than red and green.
fn blue_pixels(photo: &Photo) -> usize {
    let is_blue = |p: &[u8]| p[2] > p[0].saturating_add(60) && p[2] > p[1].saturating_add(40);
    photo.rgb().as_raw().chunks_exact(3).filter(|pixel| is_blue(pixel)).count()
}
