use editmgt_core::GridSize;

use super::border::{disk, symmetric};

/// Opening, then closing, by a disk with symmetric borders, as in scikit-image: removes spots, then
/// fills holes, that are smaller than the disk.
pub(super) fn open_close(map: &[f32], size: GridSize, radius: usize) -> Vec<f32> {
    let disk = disk(radius);
    let erode = |map: &[f32]| extreme(map, size, &disk, f32::min);
    let dilate = |map: &[f32]| extreme(map, size, &disk, f32::max);
    let opened = dilate(&erode(map));
    erode(&dilate(&opened))
}

/// The smallest or largest value in each cell's window.
fn extreme(
    map: &[f32],
    size: GridSize,
    window: &[(isize, isize)],
    pick: fn(f32, f32) -> f32,
) -> Vec<f32> {
    let GridSize { height, width } = size;
    let positions = (0..height as isize).flat_map(|y| (0..width as isize).map(move |x| (y, x)));
    let picked = |(y, x): (isize, isize)| {
        let own = map[y as usize * width + x as usize];
        window.iter().fold(own, |best, (dy, dx)| {
            pick(best, map[symmetric(y + dy, height) * width + symmetric(x + dx, width)])
        })
    };
    positions.map(picked).collect()
}
