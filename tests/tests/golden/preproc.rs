use editmgt::photo::{Mask, PixelSize, ResizePlan};
use editmgt_diagnostics::verify::GoldenFolder;
use editmgt_tests::golden;

/// The initial canvas of official inpainting.
#[test]
fn a_mask_covers_the_tokens_that_it_covers_officially() {
    let dir = golden("pipeline_inpaint_clip_nodown").expect("the folder is committed");
    let folder = GoldenFolder::open(&dir).unwrap();
    let reference = folder.tokens("reference_tokens_raw").unwrap();
    let expected = folder.tokens("step0.sample").unwrap();
    let mask_token = *expected.ids().iter().max().unwrap();
    let mask = Mask::open(dir.join("mask.png")).unwrap();
    let grid = reference.size();
    let plan = ResizePlan::exact(mask.size(), PixelSize::new(grid.height, grid.width), 1).unwrap();
    for on_grid in [mask.on_grid_official(grid).unwrap(), mask.on_grid(&plan, grid).unwrap()] {
        assert_eq!(on_grid.masked(&reference, mask_token).unwrap(), expected);
    }
}
