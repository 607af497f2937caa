//! A world of drawn objects in scenery.
//!
//! Sprites (Microsoft's Fluent emoji) stand in a meadow, on a beach or in a room. Recolouring is
//! exact: a sprite's main fills change their hue and keep their shading.
//!
//! ```
//! use editmgt_world::Split;
//! use editmgt_world::sprites::{SpritesConfig, World};
//!
//! let world = World::new(SpritesConfig { seed: 3, ..SpritesConfig::default() })?;
//! let plan = world.plan(Split::Train, 0);
//! let pair = world.paint(&plan);
//! println!("{}", pair.instruction);
//! assert!(world.judge(&plan, &pair, &pair.after)?.success);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The rules
//! The canvas is a grid of cells; small things are three of them large, medium ones four, big ones
//! six. Lower objects are in front. No two things of a scene share kind and colour.
//!
//! - **add**: a thing of a size at one of nine places, or beside another, on the same line.
//! - **remove**: shows what is behind.
//! - **replace**: another thing of the same size in the same box; the colour is kept unless the
//!   instruction names a new one.
//! - **colour**: changes only the colour.
//! - **background**: keeps all things.
//! - **style**: a function of the image.
//! - **motion**: four cells in a direction, `a little` two, `far` six; to a corner or the centre;
//!   beside another thing. `next to` is to the right if there is space, else to the left.
//!
//! Things are referred to by kind, colour, size, place and order: see [`Reference`].

mod action;
mod backdrop;
mod config;
mod contents;
mod draw;
mod grammar;
mod judge;
mod lesson;
mod names;
mod paint;
mod scene;
mod style;
mod svg;
#[cfg(test)]
mod tests;

use editmgt_core::config::ConfigError;
use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::random::{Draws, Purpose};
use crate::{Category, EditPair, Judgement, Split};
use paint::Painter;
use scene::Layout;

pub use action::{Action, Destination, Naming, Reference};
pub use config::{SPRITES_VERSION, SpritesConfig, SpritesKind};
pub use contents::content_classes;
pub use lesson::lesson_classes;
pub use names::{Background, Colour, Distance, Extreme, Side, Size, Style, Thing};
pub use scene::{Object, Scene};

/// Ground truth of one example, without its images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The scene before.
    pub scene_before: Scene,
    /// The scene after.
    pub scene_after: Scene,
    /// The successive actions: one, or two in a world of two steps.
    pub edit: Vec<Action>,
    /// The instruction.
    pub instruction: String,
    /// The phrase of the instruction that names the target.
    pub phrase: String,
}

impl Plan {
    /// The category, of two actions that of the first.
    pub fn category(&self) -> Category {
        self.edit[0].category()
    }
}

/// The generator. Every method is a pure function of the config and its arguments.
#[derive(Debug)]
pub struct World {
    config: SpritesConfig,
    layout: Layout,
    painter: Painter,
}

/// Attempts before the generator is considered broken. A scene of a small split that fits its edit
/// takes tens.
const MAX_ATTEMPTS: usize = 1_000_000;

impl World {
    /// A generator of this world.
    ///
    /// # Errors
    /// [`ConfigError::Unsupported`] naming the key that makes the world impossible.
    pub fn new(config: SpritesConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let layout = config.layout();
        Ok(Self { painter: Painter::new(&config, layout), config, layout })
    }

    /// Its config.
    pub fn config(&self) -> &SpritesConfig {
        &self.config
    }

    /// All words of the instructions, sorted.
    pub fn vocabulary(&self) -> Vec<String> {
        grammar::vocabulary(&self.config)
    }

    /// Ground truth of example `index` of a split; deterministic. Categories alternate in the order
    /// of the config.
    pub fn plan(&self, split: Split, index: u64) -> Plan {
        let categories = &self.config.categories;
        let category = categories[(index % categories.len() as u64) as usize];
        let seed = (self.config.seed, SPRITES_VERSION);
        let mut draws = Draws::new(seed, split, index, Purpose::Sprites);
        for _ in 0..MAX_ATTEMPTS {
            let before = self.draw_scene(&mut draws);
            if Split::of(before.fingerprint()) != split {
                continue;
            }
            let Some((mut edit, mut after)) = self.draw_step(category, &before, &mut draws) else {
                continue;
            };
            if self.config.two_steps {
                let second = categories[draws_index(&mut draws, categories.len())];
                match self.draw_step(second, &after, &mut draws) {
                    Some((next, then)) if then != before => {
                        edit.extend(next);
                        after = then;
                    }
                    _ => continue,
                }
            }
            let wording = grammar::wording(&edit, &mut draws);
            return Plan {
                scene_before: before,
                scene_after: after,
                edit,
                instruction: wording.instruction,
                phrase: wording.phrase,
            };
        }
        panic!("a validated world has scenes for every category");
    }

    fn draw_step(
        &self,
        category: Category,
        scene: &Scene,
        draws: &mut Draws,
    ) -> Option<(Vec<Action>, Scene)> {
        let action = self.draw_action(category, scene, draws)?;
        Some((vec![action], action.apply(scene, self.layout)?))
    }

    /// The images of an example.
    pub fn paint(&self, plan: &Plan) -> EditPair {
        let before = self.painter.paint(&plan.scene_before);
        let after = self.painter.paint(&plan.scene_after);
        let changed = crate::window::difference(&before, &after);
        EditPair {
            before,
            instruction: plan.instruction.clone(),
            after,
            changed: Some(changed),
            category: Some(plan.category()),
            phrase: Some(plan.phrase.clone()),
        }
    }

    /// The image of a scene.
    pub fn picture(&self, scene: &Scene) -> RgbImage {
        self.painter.paint(scene)
    }

    /// Judges whether an edited image is what the example asked for, by the criteria of
    /// [`Judgement`]. Up to 6% of the changed cells may be wrong: one of a medium thing, two of a
    /// big one, whose details are finer than a codec's.
    ///
    /// # Errors
    /// [`editmgt_core::Error::Value`] when the image's size differs from the example's.
    pub fn judge(
        &self,
        plan: &Plan,
        pair: &EditPair,
        image: &RgbImage,
    ) -> editmgt_core::Result<Judgement<Scene>> {
        judge::judge(self, plan, pair, image)
    }
}

fn draws_index(draws: &mut Draws, n: usize) -> usize {
    crate::random::Choose::index(draws, n)
}
