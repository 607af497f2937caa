//! Everything in the world that has a name, with its words.

use serde::{Deserialize, Serialize};

use super::svg::Drawing;

/// Kinds of objects: a name, its plural, the file of its sprite, and the fills that change with its
/// colour, the first of which becomes exactly that colour.
macro_rules! things {
    ($($(#[$doc:meta])* $variant:ident => $word:literal, $plural:literal, $file:literal, [$($fill:literal),+]);+ $(;)?) => {
        named! {
            /// Kind of an object.
            Thing {
                $($(#[$doc])* $variant => $word),+
            }
        }

        impl Thing {
            /// Its plural.
            pub fn plural(self) -> &'static str {
                match self {
                    $(Self::$variant => $plural),+
                }
            }

            /// Its sprite in the original colours.
            pub(super) fn svg(self) -> &'static str {
                match self {
                    $(Self::$variant => include_str!(concat!("../../sprites/", $file, ".svg"))),+
                }
            }

            /// The fills that change with the colour, sRGB as 0xrrggbb.
            fn main_fills(self) -> &'static [u32] {
                match self {
                    $(Self::$variant => &[$($fill),+]),+
                }
            }
        }
    };
}

things! {
    /// A cat.
    Cat => "cat", "cats", "cat", [0xf3ad61, 0xd3883e, 0xffdea7];
    /// A dog.
    Dog => "dog", "dogs", "dog", [0xf3ad61, 0xd3883e, 0xffdea7];
    /// A bird.
    Bird => "bird", "birds", "bird", [0xca0b4a];
    /// A fish.
    Fish => "fish", "fish", "fish", [0x00a6ed, 0x0074ba];
    /// A snail.
    Snail => "snail", "snails", "snail", [0xa56953, 0x6d4534];
    /// A butterfly.
    Butterfly => "butterfly", "butterflies", "butterfly", [0xff822d, 0xff6723];
    /// A turtle.
    Turtle => "turtle", "turtles", "turtle", [0x008463, 0x00d26a];
    /// A whale.
    Whale => "whale", "whales", "whale", [0x00a6ed, 0xaeddff];
    /// A chick.
    Chick => "chick", "chicks", "chick", [0xfcd53f, 0xf9c23c];
    /// An elephant.
    Elephant => "elephant", "elephants", "elephant", [0x9b9b9b, 0x636363, 0xd3d3d3];
    /// A dinosaur.
    Dinosaur => "dinosaur", "dinosaurs", "dinosaur", [0x00d26a, 0x008463];
    /// An apple.
    Apple => "apple", "apples", "apple", [0xf8312f];
    /// A pear.
    Pear => "pear", "pears", "pear", [0xc3ef3c];
    /// A strawberry.
    Strawberry => "strawberry", "strawberries", "strawberry", [0xf8312f];
    /// A mushroom.
    Mushroom => "mushroom", "mushrooms", "mushroom", [0xf8312f, 0xfbb8ab];
    /// A carrot.
    Carrot => "carrot", "carrots", "carrot", [0xff822d, 0xff6723];
    /// A car.
    Car => "car", "cars", "car", [0xf8312f, 0xca0b4a];
    /// A bus.
    Bus => "bus", "buses", "bus", [0xffb02e, 0xe6e6e6];
    /// A pickup truck.
    Truck => "truck", "trucks", "truck", [0xf8312f];
    /// A tulip.
    Tulip => "tulip", "tulips", "tulip", [0xff6dc6, 0xf70a8d];
    /// A cactus.
    Cactus => "cactus", "cacti", "cactus", [0x86d72f, 0x44911b, 0xc3ef3c];
    /// A tree.
    Tree => "tree", "trees", "tree", [0x44911b];
    /// A house.
    House => "house", "houses", "house", [0xf3c07b];
    /// An umbrella.
    Umbrella => "umbrella", "umbrellas", "umbrella", [0x8d65c5, 0x433b6b];
    /// A balloon.
    Balloon => "balloon", "balloons", "balloon", [0xf8312f, 0xca0b4a, 0xff8687, 0x3f5fff];
    /// A star.
    Star => "star", "stars", "star", [0xfcd53f];
    /// A book.
    Book => "book", "books", "book", [0xca0b4a, 0x990838];
    /// A teapot.
    Teapot => "teapot", "teapots", "teapot", [0xf8312f, 0xca0b4a];
    /// A hat.
    Hat => "hat", "hats", "hat", [0x533566, 0x321b41];
    /// A bell.
    Bell => "bell", "bells", "bell", [0xf9c23c, 0xffb02e];
}

impl Thing {
    /// Its sprite.
    pub(super) fn drawing(self) -> Drawing {
        Drawing::parse(self.svg()).expect("sprites are plain paths, as a test makes sure")
    }

    /// The fills that change with its colour; the first becomes exactly that colour.
    pub(super) fn main(self) -> impl Iterator<Item = [u8; 3]> {
        self.main_fills().iter().map(|fill| [(fill >> 16) as u8, (fill >> 8) as u8, *fill as u8])
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
        /// Brown.
        Brown => "brown",
        /// Nearly white.
        White => "white",
    }
}

impl Colour {
    /// sRGB, 0..=255; any two differ by 30 levels or more in the mean of the channels.
    pub fn rgb(self) -> [u8; 3] {
        match self {
            Self::Red => [222, 44, 48],
            Self::Orange => [250, 138, 30],
            Self::Yellow => [252, 212, 52],
            Self::Green => [62, 160, 66],
            Self::Blue => [40, 108, 224],
            Self::Purple => [136, 70, 186],
            Self::Pink => [246, 128, 190],
            Self::Brown => [136, 86, 60],
            Self::White => [240, 240, 236],
        }
    }
}

named! {
    /// Size of an object.
    Size {
        /// Three cells.
        Small => "small",
        /// Four cells.
        Medium => "medium",
        /// Six cells.
        Big => "big",
    }
}

impl Size {
    /// Cells along its box.
    pub(super) fn cells(self) -> u32 {
        match self {
            Self::Small => 3,
            Self::Medium => 4,
            Self::Big => 6,
        }
    }

    /// The adjectives for it.
    pub(super) fn words(self) -> &'static [&'static str] {
        match self {
            Self::Small => &["small", "little"],
            Self::Medium => &["medium"],
            Self::Big => &["big", "large"],
        }
    }
}

named! {
    /// The background of a scene.
    Background {
        /// Sky, clouds and green hills.
        Meadow => "meadow",
        /// Sky, sea and sand.
        Beach => "beach",
        /// Snowy hills and firs.
        Snow => "snow",
        /// Lit windows at night.
        City => "city",
        /// Dunes under a low sun.
        Desert => "desert",
        /// Waves.
        Sea => "sea",
        /// Trunks and leaves.
        Forest => "forest",
        /// A wall with a window and a wooden floor.
        Room => "room",
    }
}

impl Background {
    /// Nouns of the background.
    pub(super) fn nouns(self) -> &'static [&'static str] {
        match self {
            Self::Meadow => &["a meadow", "a green meadow"],
            Self::Beach => &["a beach", "the beach"],
            Self::Snow => &["snow", "a snowy landscape"],
            Self::City => &["a city", "a city at night"],
            Self::Desert => &["a desert", "the desert"],
            Self::Sea => &["the sea", "the ocean"],
            Self::Forest => &["a forest", "the woods"],
            Self::Room => &["a room", "a living room"],
        }
    }

    /// Phrases for placing all objects.
    pub(super) fn locatives(self) -> &'static [&'static str] {
        match self {
            Self::Meadow => &["in a meadow"],
            Self::Beach => &["on a beach", "on the beach"],
            Self::Snow => &["in the snow"],
            Self::City => &["in a city", "in a city at night"],
            Self::Desert => &["in a desert", "in the desert"],
            Self::Sea => &["in the sea", "in the ocean"],
            Self::Forest => &["in a forest", "in the woods"],
            Self::Room => &["in a room", "in a living room"],
        }
    }
}

named! {
    /// Rendering style of a scene.
    Style {
        /// Normal.
        Normal => "normal",
        /// Dark and blue.
        Night => "night",
        /// Brown tones.
        Sepia => "sepia",
        /// Luminance only.
        Greyscale => "greyscale",
        /// Dark edges on white paper.
        Pencil => "pencil",
        /// Large square pixels.
        PixelArt => "pixel art",
        /// Few tones of each channel.
        Poster => "poster",
    }
}

impl Style {
    /// Templates of its instruction; `{it}` is the image.
    pub(super) fn templates(self) -> &'static [&'static str] {
        match self {
            Self::Normal => &[],
            Self::Night => &["make it night", "turn {it} into night"],
            Self::Sepia => &["make {it} sepia", "turn {it} sepia", "give {it} a sepia tone"],
            Self::Greyscale => &[
                "make {it} black and white",
                "turn {it} black and white",
                "make {it} greyscale",
                "convert {it} to grayscale",
            ],
            Self::Pencil => &[
                "turn {it} into a pencil drawing",
                "make {it} a pencil drawing",
                "turn {it} into a pencil sketch",
            ],
            Self::PixelArt => &["turn {it} into pixel art", "make {it} pixel art"],
            Self::Poster => &["turn {it} into a poster", "make {it} a poster"],
        }
    }
}

named! {
    /// An extreme of a row, a column or of sizes.
    Extreme {
        /// Smallest x.
        Left => "left",
        /// Largest x.
        Right => "right",
        /// Smallest y.
        Top => "top",
        /// Largest y of the lower edge.
        Bottom => "bottom",
        /// The largest box.
        Biggest => "biggest",
        /// The smallest box.
        Smallest => "smallest",
    }
}

impl Extreme {
    /// Adjectives before the noun.
    pub(super) fn adjectives(self) -> &'static [&'static str] {
        match self {
            Self::Left => &["left", "leftmost"],
            Self::Right => &["right", "rightmost"],
            Self::Top => &["top", "upper"],
            Self::Bottom => &["bottom", "lower"],
            Self::Biggest => &["biggest", "largest"],
            Self::Smallest => &["smallest"],
        }
    }

    /// Phrases after the noun; empty if there are only adjectives.
    pub(super) fn locatives(self) -> &'static [&'static str] {
        match self {
            Self::Left => &["on the left"],
            Self::Right => &["on the right"],
            Self::Top => &["at the top"],
            Self::Bottom => &["at the bottom"],
            Self::Biggest | Self::Smallest => &[],
        }
    }
}

named! {
    /// Distance of a motion.
    Distance {
        /// Two cells.
        Near => "a little",
        /// Four cells.
        Normal => "normal",
        /// Six cells.
        Far => "far",
    }
}

impl Distance {
    /// Cells.
    pub(super) fn cells(self) -> u32 {
        match self {
            Self::Near => 2,
            Self::Normal => 4,
            Self::Far => 6,
        }
    }

    /// Phrases after the direction; an empty one means that it can be omitted.
    pub(super) fn words(self) -> &'static [&'static str] {
        match self {
            Self::Near => &["a little", "a bit"],
            Self::Normal => &[""],
            Self::Far => &["far"],
        }
    }
}

named! {
    /// Side of a neighbouring object.
    Side {
        /// To its left.
        Left => "left",
        /// To its right.
        Right => "right",
        /// To its right if there is space, else to its left.
        Beside => "beside",
    }
}

impl Side {
    /// Phrases before the neighbour.
    pub(super) fn words(self) -> &'static [&'static str] {
        match self {
            Self::Left => &["to the left of"],
            Self::Right => &["to the right of"],
            Self::Beside => &["next to", "beside"],
        }
    }
}
