//! Random scenes and edits.

use super::World;
use super::edit::{Destination, Edit};
use super::names::{Direction, Place, Style};
use super::scene::{Object, Scene};
use crate::Category;
use crate::random::{Choose, Draws};

/// Positions tried for an object before it is skipped.
const MAX_PLACEMENTS: usize = 16;

impl World {
    pub(super) fn draw_scene(&self, draws: &mut Draws) -> Scene {
        let background = *draws.pick(&self.config.backgrounds);
        let mut scene = Scene { background, style: Style::Normal, objects: Vec::new() };
        for _ in 0..=draws.index(self.config.max_objects) {
            let placed = (0..MAX_PLACEMENTS).find_map(|_| {
                let object = self.draw_object(draws);
                scene.with(object, self.layout)
            });
            scene = placed.unwrap_or(scene);
        }
        scene
    }

    fn draw_object(&self, draws: &mut Draws) -> Object {
        let size = *draws.pick(&self.config.sizes);
        let (first, last) = self.layout.range(size);
        let step = self.layout.step;
        let mut coordinate =
            || first + step * draws.index(((last - first) / step + 1) as usize) as u32;
        let (x, y) = (coordinate(), coordinate());
        let (shape, colour) = (*draws.pick(&self.config.shapes), *draws.pick(&self.config.colours));
        Object { shape, colour, size, x, y }
    }

    /// A random edit of this category, which may be impossible.
    pub(super) fn draw_edit(&self, category: Category, scene: &Scene, draws: &mut Draws) -> Edit {
        let object = *draws.pick(&scene.objects);
        match category {
            Category::Add => {
                let place = *draws.pick(Place::ALL);
                let new = self.draw_object(draws);
                let (x, y) = self.layout.at(place, new.size);
                Edit::Add { object: Object { x, y, ..new }, place }
            }
            Category::Remove => Edit::Remove { object },
            Category::Replace => {
                let others: Vec<_> =
                    self.config.shapes.iter().copied().filter(|&s| s != object.shape).collect();
                let shape = *draws.pick(&others);
                let colour = *draws.pick(&self.config.colours);
                let colour = (draws.index(2) == 0).then_some(colour);
                Edit::Replace { object, shape, colour }
            }
            Category::Colour => Edit::Colour { object, colour: *draws.pick(&self.config.colours) },
            Category::Background => {
                Edit::Background { background: *draws.pick(&self.config.backgrounds) }
            }
            Category::Style => Edit::Style { style: *draws.pick(&self.config.styles) },
            Category::Motion => {
                let to = if draws.index(2) == 0 {
                    Destination::Direction(*draws.pick(Direction::ALL))
                } else {
                    Destination::Place(*draws.pick(&Place::OF_MOTION))
                };
                Edit::Motion { object, to }
            }
        }
    }
}
