use image::{Rgb, RgbImage};
use tiny_skia::{FillRule, Mask, Path, PathBuilder, Rect, Stroke, Transform};

use super::names::{Shape, Size, Style};
use super::scene::{Layout, Scene, TILE};
use crate::window::Window;

/// The two colours of a drawing, sRGB.
const PAPER: [u8; 3] = [252, 251, 247];
const INK: [u8; 3] = [40, 42, 54];

/// Renders scenes; each image is an exact function of its scene.
#[derive(Debug)]
pub(super) struct Painter {
    layout: Layout,
    /// By shape, then size.
    sprites: Vec<Sprite>,
}

/// The coverage of a shape, rasterised once: objects stand at whole pixels, so it is the same at
/// every position. 0..=255 per pixel, row by row.
#[derive(Debug)]
struct Sprite {
    side: u32,
    fill: Vec<u8>,
    outline: Vec<u8>,
}

impl Painter {
    pub(super) fn new(layout: Layout) -> Self {
        let pen = 3.0 / 16.0 * layout.side(Size::Regular) as f32;
        let sprite = |&shape, &size| Sprite::new(shape, layout.side(size), layout.cell(), pen);
        let sprites = Shape::ALL
            .iter()
            .flat_map(|shape| Size::ALL.iter().map(move |size| sprite(shape, size)))
            .collect();
        Self { layout, sprites }
    }

    /// The image of a scene, clipped to the canvas.
    pub(super) fn paint(&self, scene: &Scene) -> RgbImage {
        self.paint_window(scene, self.layout.whole())
    }

    /// The image of a scene inside a window.
    pub(super) fn paint_window(&self, scene: &Scene, window: Window) -> RgbImage {
        let drawing = scene.style == Style::Drawing;
        let mut image = if drawing {
            RgbImage::from_pixel(window.width, window.height, Rgb(PAPER))
        } else {
            self.background(scene, window)
        };
        for object in &scene.objects {
            let sprite =
                &self.sprites[object.shape as usize * Size::ALL.len() + object.size as usize];
            let (coverage, colour) =
                if drawing { (&sprite.outline, INK) } else { (&sprite.fill, object.colour.rgb()) };
            let area = self.layout.window(object);
            for y in area.rows_in(window) {
                for x in area.columns_in(window) {
                    let alpha = coverage[((y - area.y) * sprite.side + x - area.x) as usize];
                    let Rgb(pixel) = image.get_pixel_mut(x - window.x, y - window.y);
                    for (under, over) in pixel.iter_mut().zip(colour) {
                        *under = blend(*under, over, alpha);
                    }
                }
            }
        }
        match scene.style {
            Style::Normal | Style::Drawing => {}
            Style::Negative => image.iter_mut().for_each(|value| *value = 255 - *value),
            Style::Greyscale => {
                image.pixels_mut().for_each(|Rgb(pixel)| *pixel = [luma(*pixel); 3]);
            }
        }
        image
    }

    fn background(&self, scene: &Scene, window: Window) -> RgbImage {
        let tones = scene.background.tones();
        let mut image = RgbImage::from_pixel(window.width, window.height, Rgb(tones[0]));
        if tones[0] != tones[1] {
            let tile = TILE * self.layout.cell();
            for (x, y, Rgb(pixel)) in image.enumerate_pixels_mut() {
                let (column, row) = ((x + window.x) / tile, (y + window.y) / tile);
                *pixel = tones[scene.background.tone(column, row)];
            }
        }
        image
    }
}

fn blend(under: u8, over: u8, alpha: u8) -> u8 {
    let (under, over, alpha) = (u32::from(under), u32::from(over), u32::from(alpha));
    ((under * (255 - alpha) + over * alpha + 127) / 255) as u8
}

/// Rec. 601 luma, rounded to an integer.
fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((77 * u32::from(r) + 150 * u32::from(g) + 29 * u32::from(b) + 128) >> 8) as u8
}

impl Sprite {
    /// `side` and `cell` are pixels, `pen` is the width of an outline in pixels, of which the outer
    /// half is cut off.
    fn new(shape: Shape, side: u32, cell: u32, pen: f32) -> Self {
        // The ring's inner circle is a hole because it lies an even number of outlines deep.
        let cover = |path: &Path, transform| {
            let mut mask = Mask::new(side, side).expect("a sprite has at least one pixel");
            mask.fill_path(path, FillRule::EvenOdd, true, transform);
            mask.data().to_vec()
        };
        let scale = Transform::from_scale(side as f32, side as f32);
        let path = outline(shape, side / cell).expect("the outline of every shape is finite");
        let fill = cover(&path, scale);
        let path = path.transform(scale).expect("a finite scale");
        let mut line = Mask::new(side, side).expect("a sprite has at least one pixel");
        if let Some(line_path) = path.stroke(&Stroke { width: pen, ..Stroke::default() }, 1.0) {
            line.fill_path(&line_path, FillRule::Winding, true, Transform::identity());
        }
        let outline =
            fill.iter().zip(line.data()).map(|(&inside, &on)| blend(0, inside, on)).collect();
        Self { side, fill, outline }
    }
}

/// The outline of a shape in the unit square, which it touches on all four sides. `cells` is the
/// number of cells along the square: edges are aligned with cell borders where possible.
fn outline(shape: Shape, cells: u32) -> Option<Path> {
    let mut path = PathBuilder::new();
    match shape {
        Shape::Circle => path.push_circle(0.5, 0.5, 0.5),
        Shape::Square => path.push_rect(Rect::from_xywh(0.0, 0.0, 1.0, 1.0)?),
        Shape::Triangle => polygon(&mut path, &[(0.5, 0.0), (1.0, 1.0), (0.0, 1.0)]),
        Shape::Diamond => polygon(&mut path, &[(0.5, 0.0), (1.0, 0.5), (0.5, 1.0), (0.0, 0.5)]),
        Shape::Star => polygon(&mut path, &star()),
        Shape::Cross => {
            let arm = if cells < 4 { 0.25 } else { 1.0 / cells as f32 };
            let (near, far) = (0.5 - arm, 0.5 + arm);
            let corners = [
                (near, 0.0),
                (far, 0.0),
                (far, near),
                (1.0, near),
                (1.0, far),
                (far, far),
                (far, 1.0),
                (near, 1.0),
                (near, far),
                (0.0, far),
                (0.0, near),
                (near, near),
            ];
            polygon(&mut path, &corners);
        }
        Shape::Heart => {
            // Two half circles of a quarter's radius, widened a little, and a point below.
            path.move_to(0.5, 0.22);
            path.cubic_to(0.56, 0.06, 0.68, 0.0, 0.77, 0.0);
            path.cubic_to(0.91, 0.0, 1.0, 0.12, 1.0, 0.29);
            path.cubic_to(1.0, 0.57, 0.71, 0.78, 0.5, 1.0);
            path.cubic_to(0.29, 0.78, 0.0, 0.57, 0.0, 0.29);
            path.cubic_to(0.0, 0.12, 0.09, 0.0, 0.23, 0.0);
            path.cubic_to(0.32, 0.0, 0.44, 0.06, 0.5, 0.22);
            path.close();
        }
        Shape::Ring => {
            path.push_circle(0.5, 0.5, 0.5);
            path.push_circle(0.5, 0.5, 0.25);
        }
    }
    path.finish()
}

fn polygon(path: &mut PathBuilder, corners: &[(f32, f32)]) {
    for (i, &(x, y)) in corners.iter().enumerate() {
        if i == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
    }
    path.close();
}

/// Ten corners on two circles, stretched to the unit square.
fn star() -> Vec<(f32, f32)> {
    /// Ratio of the inner radius to the outer: large enough for the tips to survive a codec.
    const WAIST: f32 = 0.46;
    let corner = |i: u8| {
        let angle = f32::from(i) * std::f32::consts::PI / 5.0;
        let radius = if i.is_multiple_of(2) { 1.0 } else { WAIST };
        (radius * angle.sin(), -radius * angle.cos())
    };
    let corners: Vec<_> = (0..10).map(corner).collect();
    let (width, bottom) = (corners[2].0, corners[4].1);
    corners.iter().map(|(x, y)| (0.5 + 0.5 * x / width, (y + 1.0) / (1.0 + bottom))).collect()
}
