use editmgt_core::config::ConfigError;
use serde::{Deserialize, Serialize};

use super::action::Naming;
use super::names::{Background, Colour, Size, Style, Thing};
use super::scene::Layout;
use crate::Category;

/// Version of the generator. It changes with anything that affects an image or an instruction.
pub const SPRITES_VERSION: u32 = 1;

/// The key that distinguishes this config from that of the world of shapes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpritesKind {
    /// The only kind.
    #[default]
    Sprites,
}

/// Config of the world of sprites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpritesConfig {
    /// `"sprites"`: without this key a config is one of the world of shapes.
    pub kind: SpritesKind,
    /// Must be [`SPRITES_VERSION`]: a config written for another generator is refused, not
    /// reinterpreted.
    pub version: u32,
    /// Seed; equal seeds give equal worlds.
    pub seed: u64,
    /// Pixels along each side of an image: a multiple of `cells`, 64..=512.
    pub canvas: u32,
    /// Cells along each side of an image, 16..=64. Objects are 3, 4 or 6 cells large, and images
    /// are judged cell by cell.
    pub cells: u32,
    /// Step between object positions in pixels, 1 to a quarter of the canvas. With steps of a cell,
    /// a codec with patches of one cell encodes an object as a fixed pattern of codes; with steps
    /// of two, so does a transformer that merges 2x2 tokens into one.
    pub step: u32,
    /// Largest overlap of two objects' boxes in pixels; the lower object is in front.
    pub overlap: u32,
    /// Whether objects cast a shadow on the ground.
    pub shadows: bool,
    /// Least objects in a scene before an edit, 1 to `max_objects`. There are fewer if they don't
    /// fit.
    pub min_objects: usize,
    /// Most objects in a scene before an edit, 1..=6.
    pub max_objects: usize,
    /// Things, at least two.
    pub things: Vec<Thing>,
    /// Colours, at least two.
    pub colours: Vec<Colour>,
    /// Sizes, at least one.
    pub sizes: Vec<Size>,
    /// Backgrounds, at least two.
    pub backgrounds: Vec<Background>,
    /// Styles that an instruction can request: at least one, without the normal one.
    pub styles: Vec<Style>,
    /// Kinds of references to objects; must include `full`, which is always possible. Repeated
    /// kinds are proportionally more frequent.
    pub naming: Vec<Naming>,
    /// Whether a thing is only called by its place ("the left dog") if its centre is in that half
    /// of the picture, and those of all others that the name could mean are in the other half. Such
    /// a name needs no comparison of things.
    pub clear_places: bool,
    /// Whether an instruction requests two successive edits. For evaluation.
    pub two_steps: bool,
    /// Example `i` is of category `i` modulo their number: exactly balanced over any range of
    /// indices. Repeated categories are proportionally more frequent.
    pub categories: Vec<Category>,
}

impl Default for SpritesConfig {
    /// All features enabled.
    fn default() -> Self {
        Self {
            kind: SpritesKind::Sprites,
            version: SPRITES_VERSION,
            seed: 0,
            canvas: 128,
            cells: 16,
            step: 4,
            overlap: 8,
            shadows: true,
            min_objects: 1,
            max_objects: 5,
            things: Thing::ALL.to_vec(),
            colours: Colour::ALL.to_vec(),
            sizes: Size::ALL.to_vec(),
            backgrounds: Background::ALL.to_vec(),
            styles: Style::ALL[1..].to_vec(),
            naming: Naming::ALL.to_vec(),
            clear_places: false,
            two_steps: false,
            categories: Category::ALL.to_vec(),
        }
    }
}

impl SpritesConfig {
    /// The world of the embedded small model: six things in four colours and two sizes, three
    /// backgrounds and two styles, without shadows and overlaps.
    pub fn embedded() -> Self {
        Self {
            step: 16,
            overlap: 0,
            shadows: false,
            max_objects: 3,
            things: vec![
                Thing::Cat,
                Thing::Fish,
                Thing::Apple,
                Thing::Mushroom,
                Thing::Car,
                Thing::House,
            ],
            colours: vec![Colour::Red, Colour::Yellow, Colour::Green, Colour::Blue],
            sizes: vec![Size::Medium, Size::Big],
            backgrounds: vec![Background::Meadow, Background::Beach, Background::Snow],
            styles: vec![Style::Sepia, Style::Poster],
            naming: vec![
                Naming::Full,
                Naming::Full,
                Naming::Thing,
                Naming::Colour,
                Naming::Place,
                Naming::Place,
                Naming::Size,
                Naming::Both,
            ],
            clear_places: true,
            ..Self::default()
        }
    }

    pub(super) fn layout(&self) -> Layout {
        Layout { canvas: self.canvas, cells: self.cells, step: self.step, overlap: self.overlap }
    }

    /// Checks that every category can be generated.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let bad = |key, expected: &str, got: String| {
            Err(ConfigError::unsupported("world", key, expected, got))
        };
        if self.version != SPRITES_VERSION {
            return bad("version", &SPRITES_VERSION.to_string(), self.version.to_string());
        }
        if !(16..=64).contains(&self.cells) {
            return bad("cells", "16 to 64", self.cells.to_string());
        }
        if !self.canvas.is_multiple_of(self.cells) || !(64..=512).contains(&self.canvas) {
            let expected = format!("a multiple of {} in 64..=512", self.cells);
            return bad("canvas", &expected, self.canvas.to_string());
        }
        if !(1..=self.canvas / 4).contains(&self.step) {
            let expected = format!("1 to {}", self.canvas / 4);
            return bad("step", &expected, self.step.to_string());
        }
        let cell = self.canvas / self.cells;
        if self.overlap > 2 * cell {
            return bad("overlap", &format!("0 to {}", 2 * cell), self.overlap.to_string());
        }
        if !(1..=6).contains(&self.max_objects) {
            return bad("max_objects", "1 to 6", self.max_objects.to_string());
        }
        if !(1..=self.max_objects).contains(&self.min_objects) {
            let expected = format!("1 to {}", self.max_objects);
            return bad("min_objects", &expected, self.min_objects.to_string());
        }
        distinct("things", &self.things, 2)?;
        distinct("colours", &self.colours, 2)?;
        distinct("sizes", &self.sizes, 1)?;
        distinct("backgrounds", &self.backgrounds, 2)?;
        distinct("styles", &self.styles, 1)?;
        if self.styles.contains(&Style::Normal) {
            return bad("styles", "no `normal`: it is what scenes start from", "normal".into());
        }
        if !self.naming.contains(&Naming::Full) {
            return bad("naming", "`full` among them", format!("{:?}", self.naming));
        }
        // An edit needs a combination of thing and colour that no object of the scene has.
        let kinds = self.things.len() * self.colours.len();
        if kinds <= self.max_objects {
            let expected = "fewer than there are things times colours";
            return bad("max_objects", expected, format!("{} with {kinds}", self.max_objects));
        }
        if self.categories.is_empty() {
            return bad("categories", "at least one", "none".into());
        }
        Ok(())
    }
}

fn distinct<T: PartialEq>(key: &'static str, list: &[T], least: usize) -> Result<(), ConfigError> {
    let once = list.iter().enumerate().all(|(i, item)| !list[..i].contains(item));
    if once && list.len() >= least {
        return Ok(());
    }
    let got = if once { list.len().to_string() } else { "a repeated one".into() };
    Err(ConfigError::unsupported("world", key, format!("at least {least}, each once"), got))
}
