//! A small world of flat pictures in which every edit is known exactly.
//!
//! Named objects stand on a named background; an instruction from a small grammar asks for one
//! change; the scene after is a function of the scene before and the instruction, and the
//! pictures are functions of the scenes. So a trainer gets the true edit, the true mask and the
//! words that name the target, and an evaluator can tell success from failure ([`World::judge`]).
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
//! The canvas is a grid of cells. Sizes, named places, distances and the tiles of backgrounds are
//! whole cells; [`Positions`] says where objects can stand, and how far they keep from each other
//! and from the border. No two share both shape and colour.
//!
//! - **add**: an object at one of nine places, small unless `big` or `large` is said.
//! - **remove**: the background shows.
//! - **replace**: another shape of the same size at the same place; the colour is kept unless a
//!   new one is said.
//! - **colour**: nothing but the colour changes.
//! - **background**: objects stay.
//! - **style**: a function of every pixel (greyscale, negative) or of the scene (a drawing of
//!   outlines on white paper). The negative of a negative is the picture itself.
//! - **motion**: `left`, `right`, `up` and `down` are the width of a regular object; `to the` corner or
//!   centre is that place.

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

/// The truth about one example, without its pictures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The scene that is edited.
    pub scene_before: Scene,
    /// The scene that should come out.
    pub scene_after: Scene,
    /// What is asked for.
    pub edit: Edit,
    /// How it is said.
    pub instruction: String,
    /// The words of the instruction that name what is edited.
    pub phrase: String,
}

/// One example with its pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Pictures, instruction, mask, category and phrase.
    pub pair: EditPair,
    /// The scene of the picture before.
    pub scene_before: Scene,
    /// The scene of the picture after.
    pub scene_after: Scene,
    /// What was asked for.
    pub edit: Edit,
}

/// The generator. Every method is a pure function of the config and its arguments.
#[derive(Debug)]
pub struct World {
    config: WorldConfig,
    layout: Layout,
    painter: Painter,
}

/// Draws before the generator is declared broken. A scene of a small split that has room for its
/// edit takes tens.
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

    /// Every word that an instruction can contain, sorted. Instructions are lower case words with
    /// single spaces between them, at most ten.
    pub fn vocabulary(&self) -> Vec<String> {
        grammar::vocabulary(&self.config)
    }

    /// Example `index` of a split: the same bytes on every call. Categories take turns in the
    /// order of the config.
    pub fn pair(&self, split: Split, index: u64) -> Example {
        self.paint(self.plan(split, index))
    }

    /// The truth about example `index`: [`World::pair`] without the pictures, some hundred times
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

    /// The way back from example `index`, as more variety for training: the edit of the picture
    /// after that restores the picture before. `None` where words can't say it exactly (what was
    /// removed stood at no named place, the style has lost the colours) or where the picture
    /// after belongs to another split.
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

    /// Whether an edited picture is what the example asked for; [`Judgement`](crate::Judgement) says how that is
    /// decided.
    ///
    /// # Errors
    /// [`editmgt_core::Error::Value`] when the picture has another size than the example's.
    pub fn judge(&self, example: &Example, image: &RgbImage) -> Result<crate::Judgement<Scene>> {
        judge::judge(&self.painter, self.layout, example, image)
    }

    /// The picture of a scene; what lies beyond the canvas is cut off.
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
    let said = grammar::say(&edit, &scene_before, draws);
    Plan { scene_before, scene_after, edit, instruction: said.instruction, phrase: said.phrase }
}
