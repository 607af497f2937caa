use editmgt_core::config::ConfigError;
use image::RgbImage;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::shapes::{self, Slots};
use crate::sprites;
use crate::{Category, EditPair, Judgement, Split};

/// Config of either world; the key `kind = "sprites"` distinguishes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum WorldConfig {
    /// Flat shapes on plain backgrounds.
    Shapes(shapes::WorldConfig),
    /// Drawn objects in scenery.
    Sprites(sprites::SpritesConfig),
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self::Shapes(shapes::WorldConfig::default())
    }
}

impl From<shapes::WorldConfig> for WorldConfig {
    fn from(config: shapes::WorldConfig) -> Self {
        Self::Shapes(config)
    }
}

impl From<sprites::SpritesConfig> for WorldConfig {
    fn from(config: sprites::SpritesConfig) -> Self {
        Self::Sprites(config)
    }
}

impl<'de> Deserialize<'de> for WorldConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = Value::deserialize(deserializer)?;
        let config = match table.get("kind") {
            None => serde_json::from_value(table).map(Self::Shapes),
            Some(_) => serde_json::from_value(table).map(Self::Sprites),
        };
        config.map_err(D::Error::custom)
    }
}

impl WorldConfig {
    /// A small world of shapes, for tests: [`shapes::WorldConfig::small`].
    pub fn small() -> Self {
        Self::Shapes(shapes::WorldConfig::small())
    }

    /// The second world, with all its features: [`sprites::SpritesConfig::default`].
    pub fn second() -> Self {
        Self::Sprites(sprites::SpritesConfig::default())
    }

    /// The world of the embedded small model: [`sprites::SpritesConfig::embedded`].
    pub fn embedded() -> Self {
        Self::Sprites(sprites::SpritesConfig::embedded())
    }

    /// Reads a config; missing keys have their defaults.
    ///
    /// # Errors
    /// [`ConfigError::Parse`] for invalid JSON or an unknown key.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        editmgt_core::config::parse("world", text, &[])
    }

    /// Pixels along each side of an image.
    pub fn canvas(&self) -> u32 {
        match self {
            Self::Shapes(config) => config.canvas,
            Self::Sprites(config) => config.canvas,
        }
    }

    /// The categories, in the order in which examples alternate.
    pub fn categories(&self) -> &[Category] {
        match self {
            Self::Shapes(config) => &config.categories,
            Self::Sprites(config) => &config.categories,
        }
    }

    /// The same world with these keys of its config in the place of its own.
    ///
    /// # Errors
    /// [`ConfigError::Parse`] for an unknown key or a value of another type.
    pub fn with_keys(&self, keys: &serde_json::Map<String, Value>) -> Result<Self, ConfigError> {
        let mut config = serde_json::to_value(self).unwrap_or_default();
        if let Some(config) = config.as_object_mut() {
            config.extend(keys.clone());
        }
        Self::from_json(&config.to_string())
    }

    /// The same world with another seed.
    pub fn with_seed(mut self, seed: u64) -> Self {
        match &mut self {
            Self::Shapes(config) => config.seed = seed,
            Self::Sprites(config) => config.seed = seed,
        }
        self
    }

    /// The same world with edits of these categories.
    pub fn with_categories(mut self, categories: Vec<Category>) -> Self {
        match &mut self {
            Self::Shapes(config) => config.categories = categories,
            Self::Sprites(config) => config.categories = categories,
        }
        self
    }
}

/// Full description of an image of either world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scene {
    /// Of the world of shapes.
    Shapes(shapes::Scene),
    /// Of the world of sprites.
    Sprites(sprites::Scene),
}

/// Ground truth of an example: scenes, edit and instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Truth {
    /// Of the world of shapes.
    Shapes(shapes::Plan),
    /// Of the world of sprites.
    Sprites(sprites::Plan),
}

impl Truth {
    /// The instruction.
    pub fn instruction(&self) -> &str {
        match self {
            Self::Shapes(plan) => &plan.instruction,
            Self::Sprites(plan) => &plan.instruction,
        }
    }

    /// The category.
    pub fn category(&self) -> Category {
        match self {
            Self::Shapes(plan) => plan.edit.category(),
            Self::Sprites(plan) => plan.category(),
        }
    }
}

/// One example with its images.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Images, instruction, mask, category and phrase.
    pub pair: EditPair,
    /// The category.
    pub category: Category,
    /// The scenes and the edit.
    pub truth: Truth,
}

/// A generator of examples. Every method is a pure function of the config and its arguments.
#[derive(Debug)]
pub struct World {
    kind: Kind,
    config: WorldConfig,
}

#[derive(Debug)]
enum Kind {
    Shapes(Box<shapes::World>),
    Sprites(Box<sprites::World>),
}

impl World {
    /// A generator of this world.
    ///
    /// # Errors
    /// [`ConfigError::Unsupported`] naming the key that makes the world impossible.
    pub fn new(config: impl Into<WorldConfig>) -> Result<Self, ConfigError> {
        let config = config.into();
        let kind = match config.clone() {
            WorldConfig::Shapes(config) => Kind::Shapes(Box::new(shapes::World::new(config)?)),
            WorldConfig::Sprites(config) => Kind::Sprites(Box::new(sprites::World::new(config)?)),
        };
        Ok(Self { kind, config })
    }

    /// Its config.
    pub fn config(&self) -> &WorldConfig {
        &self.config
    }

    /// All words of the instructions, sorted. Instructions are lower case words with single spaces
    /// between them.
    pub fn vocabulary(&self) -> Vec<String> {
        match &self.kind {
            Kind::Shapes(world) => world.vocabulary(),
            Kind::Sprites(world) => world.vocabulary(),
        }
    }

    /// Example `index` of a split; deterministic. Categories alternate in the order of the config.
    pub fn pair(&self, split: Split, index: u64) -> Example {
        match &self.kind {
            Kind::Shapes(world) => {
                let shapes::Example { pair, scene_before, scene_after, edit } =
                    world.pair(split, index);
                let plan = shapes::Plan {
                    scene_before,
                    scene_after,
                    edit,
                    instruction: pair.instruction.clone(),
                    phrase: pair.phrase.clone().unwrap_or_default(),
                };
                Example { pair, category: edit.category(), truth: Truth::Shapes(plan) }
            }
            Kind::Sprites(world) => {
                let plan = world.plan(split, index);
                let pair = world.paint(&plan);
                Example { pair, category: plan.category(), truth: Truth::Sprites(plan) }
            }
        }
    }

    /// Ground truth of example `index`: [`World::pair`] without the images, several hundred times
    /// faster.
    pub fn plan(&self, split: Split, index: u64) -> Truth {
        match &self.kind {
            Kind::Shapes(world) => Truth::Shapes(world.plan(split, index)),
            Kind::Sprites(world) => Truth::Sprites(world.plan(split, index)),
        }
    }

    /// The number of classes of each question of a [`lesson`](Self::lesson).
    pub fn lesson_classes(&self) -> Vec<usize> {
        match &self.kind {
            Kind::Shapes(_) => Slots::CLASSES.to_vec(),
            Kind::Sprites(_) => sprites::lesson_classes().to_vec(),
        }
    }

    /// The instruction of example `index` and the class of each question; 0 is `not mentioned`. A
    /// text encoder that predicts these has encoded all that an edit depends on.
    pub fn lesson(&self, split: Split, index: u64) -> (String, Vec<u32>) {
        match &self.kind {
            Kind::Shapes(world) => {
                let (instruction, Slots(answers)) = world.lesson(split, index);
                (instruction, answers)
            }
            Kind::Sprites(world) => world.lesson(split, index),
        }
    }

    /// The number of classes of each question about the [`contents`](Self::contents) of a cell;
    /// none in the world of shapes, whose cells are easily distinguished.
    pub fn content_classes(&self) -> Vec<usize> {
        match &self.kind {
            Kind::Shapes(_) => Vec::new(),
            Kind::Sprites(_) => sprites::content_classes().to_vec(),
        }
    }

    /// What each cell of a grid over the image before shows: row-major, one class for each question
    /// of [`content_classes`](Self::content_classes); 0 is `nothing`.
    pub fn contents(&self, truth: &Truth, rows: usize, columns: usize) -> Vec<u32> {
        match (&self.kind, truth) {
            (Kind::Sprites(world), Truth::Sprites(plan)) => {
                world.contents(&plan.scene_before, rows, columns).concat()
            }
            _ => Vec::new(),
        }
    }

    /// Judges whether an edited image is what the example asked for, by the criteria of
    /// [`Judgement`].
    ///
    /// # Errors
    /// [`editmgt_core::Error::Value`] when the image's size differs from the example's, or the
    /// example is of the other world.
    pub fn judge(&self, example: &Example, image: &RgbImage) -> editmgt_core::Result<Judgement> {
        match (&self.kind, &example.truth) {
            (Kind::Shapes(world), Truth::Shapes(plan)) => {
                let example = shapes::Example {
                    pair: example.pair.clone(),
                    scene_before: plan.scene_before.clone(),
                    scene_after: plan.scene_after.clone(),
                    edit: plan.edit,
                };
                Ok(world.judge(&example, image)?.map_scene(Scene::Shapes))
            }
            (Kind::Sprites(world), Truth::Sprites(plan)) => {
                Ok(world.judge(plan, &example.pair, image)?.map_scene(Scene::Sprites))
            }
            _ => Err(editmgt_core::Error::value("example", "one of this world", "another's")),
        }
    }
}
