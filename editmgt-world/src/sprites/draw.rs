//! Random scenes and actions.

use super::World;
use super::action::{Action, Destination, Naming, Reference};
use super::names::{Distance, Side, Style};
use super::scene::{Object, Scene};
use crate::Category;
use crate::random::{Choose, Draws};
use crate::shapes::{Direction, Place};

/// Positions tried for an object before it is skipped.
const MAX_PLACEMENTS: usize = 16;
/// One in this many objects is of a kind that the scene has already.
const ALIKE: usize = 3;

impl World {
    pub(super) fn draw_scene(&self, draws: &mut Draws) -> Scene {
        let background = *draws.pick(&self.config.backgrounds);
        let mut scene = Scene { background, style: Style::Normal, objects: Vec::new() };
        let (least, most) = (self.config.min_objects, self.config.max_objects);
        for _ in 0..least + draws.index(most - least + 1) {
            let placed = (0..MAX_PLACEMENTS).find_map(|_| {
                let mut object = self.draw_object(draws);
                if !scene.objects.is_empty() && draws.index(ALIKE) == 0 {
                    object.thing = draws.pick(&scene.objects).thing;
                }
                let new = |o: &Object| (o.thing, o.colour) != (object.thing, object.colour);
                scene.objects.iter().all(new).then(|| scene.with(object, self.layout))?
            });
            scene = placed.unwrap_or(scene);
        }
        scene
    }

    fn draw_object(&self, draws: &mut Draws) -> Object {
        let size = *draws.pick(&self.config.sizes);
        let positions = self.layout.positions(size) as usize;
        let x = draws.index(positions);
        // Objects stand on the ground: the lower of two heights is preferred.
        let (one, other) = (draws.index(positions), draws.index(positions));
        let y = if draws.index(2) == 0 { one.max(other) } else { one };
        let step = self.layout.step;
        Object {
            thing: *draws.pick(&self.config.things),
            colour: *draws.pick(&self.config.colours),
            size,
            x: x as u32 * step,
            y: y as u32 * step,
        }
    }

    /// A random action of this category, which may be impossible.
    pub(super) fn draw_action(
        &self,
        category: Category,
        scene: &Scene,
        draws: &mut Draws,
    ) -> Option<Action> {
        let config = &self.config;
        let target = scene.objects.get(draws.index(scene.objects.len().max(1)));
        let what = |draws: &mut Draws, both: bool| self.draw_reference(target?, scene, both, draws);
        Some(match category {
            Category::Add => {
                let to = match draws.index(3) {
                    0 => self.draw_beside(target?, scene, draws)?,
                    _ => Destination::Place(*draws.pick(Place::ALL)),
                };
                Action::Add {
                    thing: *draws.pick(&config.things),
                    colour: *draws.pick(&config.colours),
                    size: *draws.pick(&config.sizes),
                    to,
                }
            }
            Category::Remove => Action::Remove { what: what(draws, true)? },
            Category::Replace => {
                let thing = *draws.pick(&config.things);
                if thing == target?.thing {
                    return None;
                }
                let colour = *draws.pick(&config.colours);
                let colour = (draws.index(2) == 0).then_some(colour);
                Action::Replace { what: what(draws, false)?, thing, colour }
            }
            Category::Colour => {
                Action::Colour { what: what(draws, true)?, colour: *draws.pick(&config.colours) }
            }
            Category::Background => {
                Action::Background { background: *draws.pick(&config.backgrounds) }
            }
            Category::Style => Action::Style { style: *draws.pick(&config.styles) },
            Category::Motion => {
                let to = match draws.index(4) {
                    0 => Destination::Place(*draws.pick(&Place::OF_MOTION)),
                    1 if scene.objects.len() > 1 => {
                        self.draw_beside(draws.pick(&scene.objects), scene, draws)?
                    }
                    _ => {
                        let way = *draws.pick(Direction::ALL);
                        Destination::Direction(way, *draws.pick(Distance::ALL))
                    }
                };
                Action::Motion { what: what(draws, false)?, to }
            }
        })
    }

    /// A destination beside this object, which is referred to by its description.
    fn draw_beside(&self, other: &Object, scene: &Scene, draws: &mut Draws) -> Option<Destination> {
        let plain = [Naming::Full, Naming::Thing];
        let references = self.named(other, scene, &plain);
        (!references.is_empty())
            .then(|| Destination::Beside(*draws.pick(Side::ALL), *draws.pick(&references)))
    }

    /// A random reference of the config's kinds to this object, and with `both` to this and another
    /// one of its kind.
    fn draw_reference(
        &self,
        object: &Object,
        scene: &Scene,
        both: bool,
        draws: &mut Draws,
    ) -> Option<Reference> {
        let kinds: Vec<Naming> = self
            .config
            .naming
            .iter()
            .copied()
            .filter(|&kind| both || kind != Naming::Both)
            .filter(|&kind| !self.named(object, scene, &[kind]).is_empty())
            .collect();
        if kinds.is_empty() {
            return None;
        }
        let kind = *draws.pick(&kinds);
        Some(*draws.pick(&self.named(object, scene, &[kind])))
    }

    /// References of these kinds that resolve to this object in the scene: by itself, or as one of
    /// both.
    fn named(&self, object: &Object, scene: &Scene, kinds: &[Naming]) -> Vec<Reference> {
        let references = kinds.iter().flat_map(|kind| kind.references(object));
        references
            .filter(|reference| {
                reference.resolve(scene).is_some_and(|named| named.contains(object))
                    && (!self.config.clear_places || reference.is_clear(scene, self.layout))
            })
            .collect()
    }
}
