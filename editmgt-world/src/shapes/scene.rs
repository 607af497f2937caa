use serde::{Deserialize, Serialize};

use super::names::{Background, Colour, Direction, Place, Shape, Size, Style};
use crate::fingerprint::fingerprint;
use crate::window::Window;

/// One object of a scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Object {
    /// Its shape.
    pub shape: Shape,
    /// Its colour.
    pub colour: Colour,
    /// Its size.
    pub size: Size,
    /// Left edge of its box, in pixels.
    pub x: u32,
    /// Top edge of its box, in pixels.
    pub y: u32,
}

/// Full description of an image: equal scenes have equal images.
///
/// Objects don't overlap and are in reading order (by row, then column); no two have both shape and
/// colour in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scene {
    /// The background.
    pub background: Background,
    /// The style.
    pub style: Style,
    /// The objects, in reading order.
    pub objects: Vec<Object>,
}

impl Scene {
    /// Adds an object, if it is inside the margin, keeps its distance to the others, and has a
    /// distinct description.
    pub(super) fn with(&self, object: Object, layout: Layout) -> Option<Self> {
        let fits = layout.inside(&object)
            && self.objects.iter().all(|other| {
                layout.clear(&object, other)
                    && (object.shape, object.colour) != (other.shape, other.colour)
            });
        fits.then(|| {
            let mut scene = self.clone();
            scene.objects.push(object);
            scene.objects.sort_by_key(|o| (o.y, o.x));
            scene
        })
    }

    /// The scene without one of its objects.
    pub(super) fn without(&self, object: &Object) -> Option<Self> {
        let at = self.objects.iter().position(|o| o == object)?;
        let mut scene = self.clone();
        scene.objects.remove(at);
        Some(scene)
    }

    /// A hash of the visible content, the same on every machine and in every version (FNV-1a, with
    /// SplitMix's finaliser for uniform bits).
    pub(super) fn fingerprint(&self) -> u64 {
        let mut bytes = vec![self.background as u8, self.style as u8];
        for o in &self.objects {
            bytes.extend([o.shape as u8, o.colour as u8, o.size as u8]);
            bytes.extend(o.x.to_le_bytes());
            bytes.extend(o.y.to_le_bytes());
        }
        fingerprint(&bytes)
    }
}

/// Cells along a tile of a background.
pub(super) const TILE: u32 = 2;

/// Geometry of a canvas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Pixels along each side, a multiple of the cells.
    pub(super) canvas: u32,
    /// Cells along each side: sizes, places and distances are whole cells, so that a codec whose
    /// patches are cells encodes each object on its token grid.
    pub(super) cells: u32,
    /// Cells along the box of a regular object.
    pub(super) object: u32,
    /// Step between two object positions, in pixels.
    pub(super) step: u32,
    /// Distance between two objects in pixels; a multiple of the step.
    pub(super) gap: u32,
    /// Distance between an object and the border in pixels; a multiple of the step.
    pub(super) margin: u32,
}

impl Layout {
    /// Pixels along a cell.
    pub(super) fn cell(self) -> u32 {
        self.canvas / self.cells
    }

    /// Pixels along the box of an object.
    pub(super) fn side(self, size: Size) -> u32 {
        self.cell()
            * match size {
                Size::Regular => self.object,
                Size::Big => self.object * 3 / 2,
            }
    }

    /// The whole canvas.
    pub(super) fn whole(self) -> Window {
        Window { x: 0, y: 0, width: self.canvas, height: self.canvas }
    }

    /// The box of an object.
    pub(super) fn window(self, object: &Object) -> Window {
        let side = self.side(object.size);
        Window { x: object.x, y: object.y, width: side, height: side }
    }

    /// Smallest and largest coordinate of an object's box.
    pub(super) fn range(self, size: Size) -> (u32, u32) {
        (self.margin, self.canvas - self.margin - self.side(size))
    }

    /// Start of an object's box at a place.
    pub(super) fn at(self, place: Place, size: Size) -> (u32, u32) {
        let (first, last) = self.range(size);
        let coordinate = |third| match third {
            0 => first,
            1 => first + (last - first) / 2 / self.step * self.step,
            _ => last,
        };
        let (x, y) = place.thirds();
        (coordinate(x), coordinate(y))
    }

    /// The place of the object, if it is at one.
    pub(super) fn place_of(self, object: &Object) -> Option<Place> {
        Place::ALL
            .iter()
            .copied()
            .find(|&place| self.at(place, object.size) == (object.x, object.y))
    }

    /// The object one step away; `None` beyond the border.
    pub(super) fn shifted(self, object: &Object, way: Direction) -> Option<Object> {
        // Constant, so the target is at a fixed offset.
        self.offset(object, way, self.side(Size::Regular))
    }

    /// The object some pixels away; `None` beyond the border.
    pub(super) fn offset(self, object: &Object, way: Direction, by: u32) -> Option<Object> {
        let (columns, rows) = way.unit();
        let moved = |at: u32, unit: i64| u32::try_from(i64::from(at) + unit * i64::from(by)).ok();
        let object = Object { x: moved(object.x, columns)?, y: moved(object.y, rows)?, ..*object };
        self.inside(&object).then_some(object)
    }

    fn inside(self, object: &Object) -> bool {
        let (first, last) = self.range(object.size);
        [object.x, object.y].iter().all(|at| (first..=last).contains(at))
    }

    /// Whether two boxes are at least the gap apart.
    fn clear(self, a: &Object, b: &Object) -> bool {
        let apart = |a_at: u32, a_side: u32, b_at: u32, b_side: u32| {
            a_at + a_side + self.gap <= b_at || b_at + b_side + self.gap <= a_at
        };
        let (a_side, b_side) = (self.side(a.size), self.side(b.size));
        apart(a.x, a_side, b.x, b_side) || apart(a.y, a_side, b.y, b_side)
    }
}
