use super::World;
use super::names::{Colour, Size, Thing};
use super::scene::Scene;

/// Number of classes of each question about a cell: thing, colour and size of its object. 0 is `no
/// object`.
pub const fn content_classes() -> [usize; QUESTIONS] {
    [1 + Thing::ALL.len(), 1 + Colour::ALL.len(), 1 + Size::ALL.len()]
}

const QUESTIONS: usize = 3;

impl World {
    /// What each cell of a grid over the image of a scene shows, row-major: the classes of
    /// [`content_classes`] of the nearest object whose box contains the cell's centre.
    pub fn contents(&self, scene: &Scene, rows: usize, columns: usize) -> Vec<[u32; QUESTIONS]> {
        let centre = |cell: usize, cells: usize| {
            (u64::from(self.layout.canvas) * (2 * cell as u64 + 1) / (2 * cells as u64)) as u32
        };
        let of_cell = |(row, column): (usize, usize)| {
            let (x, y) = (centre(column, columns), centre(row, rows));
            let contains = |from: u32, side: u32, at: u32| (from..from + side).contains(&at);
            let nearest = scene.objects.iter().rfind(|object| {
                let side = self.layout.side(object.size);
                contains(object.x, side, x) && contains(object.y, side, y)
            });
            nearest.map_or([0; QUESTIONS], |object| {
                [object.thing as u32 + 1, object.colour as u32 + 1, object.size as u32 + 1]
            })
        };
        (0..rows)
            .flat_map(|row| (0..columns).map(move |column| (row, column)))
            .map(of_cell)
            .collect()
    }
}
