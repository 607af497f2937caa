//! Everything in the world that has a name, with its words.

use serde::{Deserialize, Serialize};

named! {
    /// Shape of an object.
    Shape {
        /// A disc.
        Circle => "circle",
        /// A square that fills its box.
        Square => "square",
        /// An upright triangle.
        Triangle => "triangle",
        /// A five-pointed star.
        Star => "star",
        /// A heart.
        Heart => "heart",
        /// An upright cross of four equal arms.
        Cross => "cross",
        /// A square on its tip.
        Diamond => "diamond",
        /// A disc with a round hole.
        Ring => "ring",
    }
}

named! {
    /// The colour of an object.
    Colour {
        /// Red.
        Red => "red",
        /// Orange.
        Orange => "orange",
        /// Yellow.
        Yellow => "yellow",
        /// Green.
        Green => "green",
        /// Blue.
        Blue => "blue",
        /// Purple.
        Purple => "purple",
        /// Pink.
        Pink => "pink",
        /// Turquoise.
        Turquoise => "turquoise",
    }
}

impl Colour {
    /// sRGB, 0..=255.
    ///
    /// Chosen so that any two, and any one and a background, differ by 40 levels or more in the
    /// mean of the channels: far more than a codec's error.
    pub fn rgb(self) -> [u8; 3] {
        match self {
            Self::Red => [208, 32, 44],
            Self::Orange => [250, 116, 4],
            Self::Yellow => [255, 222, 20],
            Self::Green => [30, 150, 72],
            Self::Blue => [36, 92, 224],
            Self::Purple => [130, 48, 172],
            Self::Pink => [246, 106, 178],
            Self::Turquoise => [24, 188, 190],
        }
    }
}

named! {
    /// Size of an object.
    Size {
        /// The regular size of the config.
        Regular => "small",
        /// Three eighths of the canvas.
        Big => "big",
    }
}

impl Size {
    /// The adjectives for it; an empty one means that it can be omitted.
    pub(super) fn words(self) -> &'static [&'static str] {
        match self {
            Self::Regular => &["", "small"],
            Self::Big => &["big", "large"],
        }
    }
}

named! {
    /// The background of a scene.
    Background {
        /// Nearly white.
        Snow => "snow",
        /// Warm beige.
        Sand => "sand",
        /// Light blue.
        Sky => "sky",
        /// Pale green.
        Grass => "grass",
        /// Dark grey.
        Slate => "slate",
        /// Very dark blue.
        Night => "night",
        /// Two mints like a chessboard.
        Checks => "checks",
        /// Two lavenders in rows.
        Stripes => "stripes",
    }
}

impl Background {
    /// The two colours of its tiles, sRGB; equal for a plain one.
    ///
    /// Two backgrounds differ by 20 levels or more, and from every object colour by 10 in luma, so
    /// that objects are visible in greyscale.
    pub(super) fn tones(self) -> [[u8; 3]; 2] {
        match self {
            Self::Snow => [[246, 248, 250]; 2],
            Self::Sand => [[240, 226, 190]; 2],
            Self::Sky => [[140, 190, 246]; 2],
            Self::Grass => [[164, 204, 112]; 2],
            Self::Slate => [[64, 66, 78]; 2],
            Self::Night => [[26, 30, 58]; 2],
            Self::Checks => [[204, 236, 228], [150, 196, 188]],
            Self::Stripes => [[226, 212, 246], [196, 174, 222]],
        }
    }

    /// The index of the tone of the tile in this column and row.
    pub(super) fn tone(self, column: u32, row: u32) -> usize {
        let parity = match self {
            Self::Stripes => row,
            _ => column + row,
        };
        (parity % 2) as usize
    }
}

named! {
    /// Rendering style of a scene.
    Style {
        /// Normal.
        Normal => "normal",
        /// Luminance only.
        Greyscale => "greyscale",
        /// Every channel inverted.
        Negative => "negative",
        /// Dark outlines on white paper.
        Drawing => "drawing",
    }
}

named! {
    /// A named place of the canvas. The outer eight keep the world's margin to the border.
    Place {
        /// In the corner.
        TopLeft => "top left",
        /// Horizontally centred.
        Top => "top",
        /// In the corner.
        TopRight => "top right",
        /// Vertically centred.
        Left => "left",
        /// Centred both ways.
        Centre => "centre",
        /// Vertically centred.
        Right => "right",
        /// In the corner.
        BottomLeft => "bottom left",
        /// Horizontally centred.
        Bottom => "bottom",
        /// In the corner.
        BottomRight => "bottom right",
    }
}

impl Place {
    /// The named destinations of a motion: the corners and the centre. `to the left` is a
    /// [`Direction`].
    pub const OF_MOTION: [Self; 5] =
        [Self::TopLeft, Self::TopRight, Self::Centre, Self::BottomLeft, Self::BottomRight];

    /// Thirds of the canvas: 0 is left or top, 2 is right or bottom.
    pub(crate) fn thirds(self) -> (u32, u32) {
        let i = self as u32;
        (i % 3, i / 3)
    }

    /// Phrases of the place in `add`.
    pub(crate) fn locatives(self) -> &'static [&'static str] {
        match self {
            Self::TopLeft => &["in the top left", "in the top left corner", "to the top left"],
            Self::Top => &["at the top"],
            Self::TopRight => &["in the top right", "in the top right corner", "to the top right"],
            Self::Left => &["on the left", "on the left side"],
            Self::Centre => &["in the centre", "in the center", "in the middle"],
            Self::Right => &["on the right", "on the right side"],
            Self::BottomLeft => {
                &["in the bottom left", "in the bottom left corner", "to the bottom left"]
            }
            Self::Bottom => &["at the bottom"],
            Self::BottomRight => {
                &["in the bottom right", "in the bottom right corner", "to the bottom right"]
            }
        }
    }

    /// Phrases of the destination in `motion`; empty for a place that is not in
    /// [`Place::OF_MOTION`].
    pub(crate) fn destinations(self) -> &'static [&'static str] {
        match self {
            Self::TopLeft => &["to the top left", "to the top left corner"],
            Self::TopRight => &["to the top right", "to the top right corner"],
            Self::Centre => &["to the centre", "to the center", "to the middle"],
            Self::BottomLeft => &["to the bottom left", "to the bottom left corner"],
            Self::BottomRight => &["to the bottom right", "to the bottom right corner"],
            Self::Top | Self::Left | Self::Right | Self::Bottom => &[],
        }
    }
}

named! {
    /// Direction of a motion, by the width of a regular object.
    Direction {
        /// Towards smaller x.
        Left => "left",
        /// Towards larger x.
        Right => "right",
        /// Towards smaller y.
        Up => "up",
        /// Towards larger y.
        Down => "down",
    }
}

impl Direction {
    /// The opposite direction.
    pub fn opposite(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }

    /// Columns and rows of one step.
    pub(crate) fn unit(self) -> (i64, i64) {
        match self {
            Self::Left => (-1, 0),
            Self::Right => (1, 0),
            Self::Up => (0, -1),
            Self::Down => (0, 1),
        }
    }

    /// Phrases of the direction.
    pub(crate) fn words(self) -> &'static [&'static str] {
        match self {
            Self::Left => &["left", "to the left"],
            Self::Right => &["right", "to the right"],
            Self::Up => &["up", "upwards"],
            Self::Down => &["down", "downwards"],
        }
    }
}
