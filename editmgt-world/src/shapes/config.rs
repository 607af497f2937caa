use editmgt_core::config::{ConfigError, parse};
use serde::{Deserialize, Serialize};

use super::names::{Background, Colour, Shape, Size, Style};
use super::scene::Layout;
use crate::Category;

/// Version of the generator. It changes with anything that affects an image or an instruction.
pub const WORLD_VERSION: u32 = 2;

/// Positions of objects. With steps of a whole cell, a codec with patches of one cell encodes an
/// object as a fixed pattern of codes; with steps of two, so does a transformer that merges 2x2
/// tokens into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// At any pixel, a cell or more from each other.
    Pixels,
    /// At whole cells, a cell or more from each other.
    Cells,
    /// At every second cell, two cells or more from each other.
    CellPairs,
}

/// Config of the world of shapes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorldConfig {
    /// Must be [`WORLD_VERSION`]: a config written for another generator is refused, not
    /// reinterpreted.
    pub version: u32,
    /// Seed; equal seeds give equal worlds.
    pub seed: u64,
    /// Pixels along each side of an image: a multiple of `cells`, 64..=512.
    pub canvas: u32,
    /// Cells along each side of an image, 8..=32, even.
    pub cells: u32,
    /// Cells along the box of an object that is not big: 2 or 4, and at most a quarter of all.
    pub object_cells: u32,
    /// Most objects in a scene before an edit, 1..=6. There are fewer if they don't fit.
    pub max_objects: usize,
    /// Positions of objects.
    pub positions: Positions,
    /// Cells between objects and the border, 0..=2; none or two with [`Positions::CellPairs`].
    pub margin: u32,
    /// Shapes, at least two.
    pub shapes: Vec<Shape>,
    /// Colours, at least two.
    pub colours: Vec<Colour>,
    /// Sizes, at least one.
    pub sizes: Vec<Size>,
    /// Backgrounds, at least two.
    pub backgrounds: Vec<Background>,
    /// Styles that an instruction can request: at least one, without the normal one.
    pub styles: Vec<Style>,
    /// Example `i` is of category `i` modulo their number: exactly balanced over any range of
    /// indices. Repeated categories are proportionally more frequent.
    pub categories: Vec<Category>,
}

impl Default for WorldConfig {
    fn default() -> Self {
        use Background::{Grass, Night, Sand, Sky, Slate, Snow};
        use Colour::{Blue, Green, Orange, Purple, Red, Yellow};
        use Shape::{Circle, Cross, Heart, Square, Star, Triangle};
        Self {
            version: WORLD_VERSION,
            seed: 0,
            canvas: 160,
            cells: 10,
            object_cells: 2,
            max_objects: 3,
            positions: Positions::CellPairs,
            margin: 0,
            shapes: vec![Circle, Square, Triangle, Star, Heart, Cross],
            colours: vec![Red, Orange, Yellow, Green, Blue, Purple],
            sizes: vec![Size::Regular],
            backgrounds: vec![Snow, Sand, Sky, Grass, Slate, Night],
            styles: vec![Style::Greyscale, Style::Drawing],
            categories: Category::ALL.to_vec(),
        }
    }
}

impl WorldConfig {
    /// A small world: fewer shapes and backgrounds, and images of 80 pixels, with 5x5 places of an
    /// object.
    pub fn small() -> Self {
        use Background::{Grass, Sand, Sky, Slate, Snow};
        use Shape::{Circle, Heart, Square, Star, Triangle};
        Self {
            canvas: 80,
            shapes: vec![Circle, Square, Triangle, Star, Heart],
            backgrounds: vec![Snow, Sand, Sky, Grass, Slate],
            styles: vec![Style::Negative, Style::Drawing],
            ..Self::default()
        }
    }

    /// Reads a config; missing keys have their defaults.
    ///
    /// # Errors
    /// [`ConfigError::Parse`] for invalid JSON or an unknown key.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        parse("world", text, &[])
    }

    /// Geometry of the canvas.
    pub(super) fn layout(&self) -> Layout {
        let cell = self.canvas / self.cells;
        let (step, gap) = match self.positions {
            Positions::Pixels => (1, cell),
            Positions::Cells => (cell, cell),
            Positions::CellPairs => (2 * cell, 2 * cell),
        };
        Layout {
            canvas: self.canvas,
            cells: self.cells,
            object: self.object_cells,
            step,
            gap,
            margin: self.margin * cell,
        }
    }

    /// Checks that every category can be generated.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let bad = |key, expected: &str, got: String| {
            Err(ConfigError::unsupported("world", key, expected, got))
        };
        if self.version != WORLD_VERSION {
            return bad("version", &WORLD_VERSION.to_string(), self.version.to_string());
        }
        if !self.cells.is_multiple_of(2) || !(8..=32).contains(&self.cells) {
            return bad("cells", "an even number, 8 to 32", self.cells.to_string());
        }
        if ![2, 4].contains(&self.object_cells) || 4 * self.object_cells > self.cells {
            let got = format!("{} of {}", self.object_cells, self.cells);
            return bad("object_cells", "2 or 4, and at most a quarter of the cells", got);
        }
        if !self.canvas.is_multiple_of(self.cells) || !(64..=512).contains(&self.canvas) {
            let expected = format!("a multiple of {} in 64..=512", self.cells);
            return bad("canvas", &expected, self.canvas.to_string());
        }
        if !(1..=6).contains(&self.max_objects) {
            return bad("max_objects", "1..=6", self.max_objects.to_string());
        }
        let step = if self.positions == Positions::CellPairs { 2 } else { 1 };
        if self.margin > 2 || !self.margin.is_multiple_of(step) {
            return bad("margin", "0, 1 or 2, and no 1 at cell_pairs", self.margin.to_string());
        }
        distinct("shapes", &self.shapes, 2)?;
        distinct("colours", &self.colours, 2)?;
        distinct("sizes", &self.sizes, 1)?;
        distinct("backgrounds", &self.backgrounds, 2)?;
        distinct("styles", &self.styles, 1)?;
        if self.styles.contains(&Style::Normal) {
            return bad("styles", "no `normal`: it is what scenes start from", "normal".into());
        }
        // An edit needs a combination of shape and colour that no object of the scene has.
        let kinds = self.shapes.len() * self.colours.len();
        if kinds <= self.max_objects {
            return bad(
                "max_objects",
                "fewer than there are shapes times colours",
                format!("{} with {kinds}", self.max_objects),
            );
        }
        // Adding requires space for two.
        let layout = self.layout();
        let room = |&&size: &&Size| {
            let (first, last) = layout.range(size);
            first + layout.side(size) + layout.gap <= last
        };
        if !self.sizes.iter().any(|size| room(&size)) {
            let expected = "a size at which two objects fit beside each other";
            return bad("sizes", expected, format!("{:?} at {:?}", self.sizes, self.positions));
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
