use serde::{Deserialize, Serialize};

use super::names::{Background, Colour, Side, Size, Style, Thing};
use crate::fingerprint::fingerprint;
use crate::shapes::{Direction, Place};
use crate::window::Window;

/// One object of a scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Object {
    /// What it is.
    pub thing: Thing,
    /// Its colour.
    pub colour: Colour,
    /// How large it is.
    pub size: Size,
    /// Left edge of its box, in pixels.
    pub x: u32,
    /// Top edge of its box, in pixels.
    pub y: u32,
}

/// Full description of an image: equal scenes have equal images.
///
/// Objects are listed from back to front: lower objects are in front, and of two on one line the
/// right one. No two start at the same pixel.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scene {
    /// The background.
    pub background: Background,
    /// The style.
    pub style: Style,
    /// The objects, from the farthest to the nearest.
    pub objects: Vec<Object>,
}

impl Scene {
    /// Adds an object if it lies on the canvas and overlaps no other by more than the layout
    /// allows.
    pub(super) fn with(&self, object: Object, layout: Layout) -> Option<Self> {
        let fits =
            layout.inside(&object) && self.objects.iter().all(|other| layout.clear(&object, other));
        fits.then(|| self.with_anyway(object, layout))
    }

    /// Adds an object, ignoring collisions.
    pub(super) fn with_anyway(&self, object: Object, layout: Layout) -> Self {
        let mut scene = self.clone();
        scene.objects.push(object);
        scene.objects.sort_by_key(|o| (o.y + layout.side(o.size), o.x, o.size, o.thing, o.colour));
        scene
    }

    /// The scene without one of its objects.
    pub(super) fn without(&self, object: &Object) -> Self {
        let mut scene = self.clone();
        scene.objects.retain(|other| other != object);
        scene
    }

    /// A hash of the visible content.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut bytes = vec![self.background as u8, self.style as u8];
        for o in &self.objects {
            bytes.extend([o.thing as u8, o.colour as u8, o.size as u8]);
            bytes.extend(o.x.to_le_bytes());
            bytes.extend(o.y.to_le_bytes());
        }
        fingerprint(&bytes)
    }
}

/// Geometry of a canvas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Pixels along each side.
    pub(super) canvas: u32,
    /// Cells along each side.
    pub(super) cells: u32,
    /// Step between object positions in pixels.
    pub(super) step: u32,
    /// Largest overlap of two boxes in pixels.
    pub(super) overlap: u32,
}

impl Layout {
    /// Pixels along a cell.
    pub(super) fn cell(self) -> u32 {
        self.canvas / self.cells
    }

    /// Pixels along the box of an object.
    pub(super) fn side(self, size: Size) -> u32 {
        self.cell() * size.cells()
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

    /// Number of positions along a side.
    pub(super) fn positions(self, size: Size) -> u32 {
        (self.canvas - self.side(size)) / self.step + 1
    }

    /// Start of an object's box at a place.
    pub(super) fn at(self, place: Place, size: Size) -> (u32, u32) {
        let last = self.positions(size) - 1;
        let coordinate = |third| {
            self.step
                * match third {
                    0 => 0,
                    1 => last / 2,
                    _ => last,
                }
        };
        let (x, y) = place.thirds();
        (coordinate(x), coordinate(y))
    }

    /// The object some pixels away; `None` beyond the border.
    pub(super) fn offset(self, object: &Object, way: Direction, by: u32) -> Option<Object> {
        let (columns, rows) = way.unit();
        let moved = |at: u32, unit: i64| u32::try_from(i64::from(at) + unit * i64::from(by)).ok();
        let object = Object { x: moved(object.x, columns)?, y: moved(object.y, rows)?, ..*object };
        self.inside(&object).then_some(object)
    }

    /// Start of a box of this size beside another object, on the same line: as near as the steps
    /// allow without an overlap. `None` beyond the border.
    pub(super) fn beside(self, size: Size, side: Side, other: &Object) -> Option<(u32, u32)> {
        let (own, its) = (self.side(size), self.side(other.size));
        let down = |at: u32| at / self.step * self.step;
        let x = match side {
            Side::Left => down(other.x.checked_sub(own)?),
            Side::Right | Side::Beside => (other.x + its).next_multiple_of(self.step),
        };
        let y = down((other.y + its).saturating_sub(own));
        (x + own <= self.canvas && y + own <= self.canvas).then_some((x, y))
    }

    pub(super) fn inside(self, object: &Object) -> bool {
        let side = self.side(object.size);
        object.x + side <= self.canvas && object.y + side <= self.canvas
    }

    /// Whether two boxes overlap by no more than the limit.
    fn clear(self, a: &Object, b: &Object) -> bool {
        let apart = |a_at: u32, a_side: u32, b_at: u32, b_side: u32| {
            a_at + a_side <= b_at + self.overlap || b_at + b_side <= a_at + self.overlap
        };
        let (a_side, b_side) = (self.side(a.size), self.side(b.size));
        apart(a.x, a_side, b.x, b_side) || apart(a.y, a_side, b.y, b_side)
    }
}
