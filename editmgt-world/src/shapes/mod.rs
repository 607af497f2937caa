//! A world of flat shapes in which every edit has exact ground truth.
//!
//! Named objects stand on a named background; an instruction from a small grammar requests one
//! change; the scene after is a function of the scene before and the instruction, and the images
//! are functions of the scenes. Training gets the true edit, the true mask and the phrase that
//! names the target; evaluation can tell success from failure ([`World::judge`]).
//!
//! ```
//! use editmgt_world::Split;
//! use editmgt_world::shapes::{World, WorldConfig};
//!
//! let world = World::new(WorldConfig { seed: 3, ..WorldConfig::default() })?;
//! let example = world.pair(Split::Train, 0);
//! println!("{}", example.pair.instruction);
//! assert!(world.judge(&example, &example.pair.after)?.success);
//! assert!(!world.judge(&example, &example.pair.before)?.success);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The rules
//! The canvas is a grid of cells. Sizes, named places, distances and background tiles are whole
//! cells; [`Positions`] determines the positions of objects, their distance, and that to the
//! border. No two objects share both shape and colour.
//!
//! - **add**: an object at one of nine places, small unless the instruction says `big` or `large`.
//! - **remove**: shows the background.
//! - **replace**: another shape of the same size at the same place; the colour is kept unless the
//!   instruction names a new one.
//! - **colour**: changes only the colour.
//! - **background**: keeps all objects.
//! - **style**: a function of every pixel (greyscale, negative) or of the scene (a drawing of
//!   outlines on white paper). The negative of a negative is the original image.
//! - **motion**: `left`, `right`, `up` and `down` move by the width of a regular object; `to the`
//!   corner or centre moves to that place.

mod config;
mod draw;
mod edit;
mod grammar;
mod judge;
mod names;
mod paint;
mod scene;
mod slots;
#[cfg(test)]
mod tests;

use editmgt_core::Result;
use editmgt_core::config::ConfigError;
use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::random::{Draws, Purpose};
use crate::{EditPair, Split};
use paint::Painter;
use scene::Layout;

pub use config::{Positions, WORLD_VERSION, WorldConfig};
pub use edit::{Destination, Edit};
pub use names::{Background, Colour, Direction, Place, Shape, Size, Style};
pub use scene::{Object, Scene};
pub use slots::Slots;

/// Ground truth of one example, without its images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The scene before.
    pub scene_before: Scene,
    /// The scene after.
    pub scene_after: Scene,
    /// The edit.
    pub edit: Edit,
    /// The instruction.
    pub instruction: String,
    /// The phrase of the instruction that names the target.
    pub phrase: String,
}

/// One example with its images.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Images, instruction, mask, category and phrase.
    pub pair: EditPair,
    /// The scene of the image before.
    pub scene_before: Scene,
    /// The scene of the image after.
    pub scene_after: Scene,
    /// The edit.
    pub edit: Edit,
}

/// The generator. Every method is a pure function of the config and its arguments.
#[derive(Debug)]
pub struct World {
    config: WorldConfig,
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
    pub fn new(config: WorldConfig) -> std::result::Result<Self, ConfigError> {
        config.validate()?;
        let layout = config.layout();
        Ok(Self { painter: Painter::new(layout), config, layout })
    }

    /// Its config.
    pub fn config(&self) -> &WorldConfig {
        &self.config
    }

    /// All words of the instructions, sorted. Instructions are lower case words with single spaces
    /// between them, at most ten.
    pub fn vocabulary(&self) -> Vec<String> {
        grammar::vocabulary(&self.config)
    }

    /// Example `index` of a split; deterministic. Categories alternate in the order of the config.
    pub fn pair(&self, split: Split, index: u64) -> Example {
        self.paint(self.plan(split, index))
    }

    /// Ground truth of example `index`: [`World::pair`] without the images, several hundred times
    /// faster.
    pub fn plan(&self, split: Split, index: u64) -> Plan {
        let categories = &self.config.categories;
        let category = categories[(index % categories.len() as u64) as usize];
        let mut draws = Draws::new((self.config.seed, WORLD_VERSION), split, index, Purpose::Pair);
        for _ in 0..MAX_ATTEMPTS {
            let scene_before = self.draw_scene(&mut draws);
            if Split::of(scene_before.fingerprint()) != split {
                continue;
            }
            let edit = self.draw_edit(category, &scene_before, &mut draws);
            if let Some(scene_after) = edit.apply(&scene_before, self.layout) {
                return plan(scene_before, scene_after, edit, &mut draws);
            }
        }
        panic!("a validated world has scenes for every category");
    }

    /// The inverse of example `index`, as additional training data: the edit of the image after
    /// that restores the image before. `None` if no instruction can express it exactly (a removed
    /// object stood at no named place, the style has lost the colours) or if the image after
    /// belongs to another split.
    pub fn inverse(&self, split: Split, index: u64) -> Option<Example> {
        let there = self.plan(split, index);
        let edit = there.edit.inverse(&there.scene_before, self.layout)?;
        let before = there.scene_after;
        let after = edit.apply(&before, self.layout)?;
        if Split::of(before.fingerprint()) != split || after != there.scene_before {
            return None;
        }
        let mut draws =
            Draws::new((self.config.seed, WORLD_VERSION), split, index, Purpose::Inverse);
        Some(self.paint(plan(before, after, edit, &mut draws)))
    }

    /// Judges whether an edited image is what the example asked for, by the criteria of
    /// [`Judgement`](crate::Judgement).
    ///
    /// # Errors
    /// [`editmgt_core::Error::Value`] when the image's size differs from the example's.
    pub fn judge(&self, example: &Example, image: &RgbImage) -> Result<crate::Judgement<Scene>> {
        judge::judge(&self.painter, self.layout, example, image)
    }

    /// The image of a scene, clipped to the canvas.
    pub fn picture(&self, scene: &Scene) -> RgbImage {
        self.painter.paint(scene)
    }

    fn paint(&self, plan: Plan) -> Example {
        let before = self.painter.paint(&plan.scene_before);
        let after = self.painter.paint(&plan.scene_after);
        let changed = crate::window::difference(&before, &after);
        Example {
            pair: EditPair {
                before,
                instruction: plan.instruction,
                after,
                changed: Some(changed),
                category: Some(plan.edit.category()),
                phrase: Some(plan.phrase),
            },
            scene_before: plan.scene_before,
            scene_after: plan.scene_after,
            edit: plan.edit,
        }
    }
}

fn plan(scene_before: Scene, scene_after: Scene, edit: Edit, draws: &mut Draws) -> Plan {
    let wording = grammar::wording(&edit, &scene_before, draws);
    Plan {
        scene_before,
        scene_after,
        edit,
        instruction: wording.instruction,
        phrase: wording.phrase,
    }
}
