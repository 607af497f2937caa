use image::{Rgb, RgbImage};
use tiny_skia::{Color, FillRule, Paint, PathBuilder, Pixmap, Rect, Transform};

use super::backdrop::backdrop;
use super::config::SpritesConfig;
use super::names::{Background, Colour, Size, Style, Thing};
use super::scene::{Layout, Object, Scene};
use super::style::rendered;
use super::svg::{Drawing, over, shifted};
use crate::window::Window;

/// Renders scenes; each image is an exact function of its scene. Sprites and backgrounds are
/// rasterised once: objects stand at whole pixels, so they are the same at every position.
#[derive(Debug)]
pub(super) struct Painter {
    layout: Layout,
    backgrounds: Vec<(Background, RgbImage)>,
    things: Vec<Thing>,
    colours: Vec<Colour>,
    sizes: Vec<Size>,
    /// By thing, then colour, then size.
    sprites: Vec<Pixmap>,
}

impl Painter {
    pub(super) fn new(config: &SpritesConfig, layout: Layout) -> Self {
        let mut sprites = Vec::new();
        for &thing in &config.things {
            let drawing = thing.drawing();
            for &colour in &config.colours {
                for &size in &config.sizes {
                    let side = layout.side(size);
                    sprites.push(sprite(&drawing, (thing, colour), side, config.shadows));
                }
            }
        }
        let painted = |&background| (background, backdrop(background, layout.canvas));
        Self {
            layout,
            backgrounds: config.backgrounds.iter().map(painted).collect(),
            things: config.things.clone(),
            colours: config.colours.clone(),
            sizes: config.sizes.clone(),
            sprites,
        }
    }

    /// The image of a scene.
    pub(super) fn paint(&self, scene: &Scene) -> RgbImage {
        let whole = self.layout.whole();
        rendered(self.unstyled(scene, whole), scene.style)
    }

    /// The image of a scene inside a window.
    pub(super) fn paint_window(&self, scene: &Scene, window: Window) -> RgbImage {
        if scene.style == Style::Normal {
            return self.unstyled(scene, window);
        }
        // A style may read the neighbours of a pixel.
        let Window { x, y, width, height } = window;
        image::imageops::crop_imm(&self.paint(scene), x, y, width, height).to_image()
    }

    fn unstyled(&self, scene: &Scene, window: Window) -> RgbImage {
        let Window { x, y, width, height } = window;
        let known = self.backgrounds.iter().find(|(background, _)| *background == scene.background);
        let mut image = match known {
            Some((_, all)) => image::imageops::crop_imm(all, x, y, width, height).to_image(),
            None => {
                let all = backdrop(scene.background, self.layout.canvas);
                image::imageops::crop_imm(&all, x, y, width, height).to_image()
            }
        };
        for object in &scene.objects {
            let sprite = self.sprite(object);
            let area = self.layout.window(object);
            for y in area.rows_in(window) {
                for x in area.columns_in(window) {
                    let pixel = sprite.pixels()[((y - area.y) * area.width + x - area.x) as usize];
                    if pixel.alpha() > 0 {
                        let Rgb(under) = image.get_pixel_mut(x - window.x, y - window.y);
                        *under = over(pixel, *under);
                    }
                }
            }
        }
        image
    }

    /// Objects come from the config: scenes are drawn from it.
    fn sprite(&self, object: &Object) -> &Pixmap {
        let at = |found: Option<usize>| found.expect("objects are of the world's own config");
        let thing = at(self.things.iter().position(|thing| *thing == object.thing));
        let colour = at(self.colours.iter().position(|colour| *colour == object.colour));
        let size = at(self.sizes.iter().position(|size| *size == object.size));
        &self.sprites[(thing * self.colours.len() + colour) * self.sizes.len() + size]
    }
}

/// A thing in its colour on its shadow.
fn sprite(drawing: &Drawing, (thing, colour): (Thing, Colour), side: u32, shadow: bool) -> Pixmap {
    let mut pixels = Pixmap::new(side, side).expect("a cell has at least one pixel");
    if shadow {
        let s = side as f32;
        let oval = Rect::from_xywh(0.08 * s, 0.86 * s, 0.84 * s, 0.14 * s);
        let path = oval.and_then(PathBuilder::from_oval);
        let mut paint = Paint::default();
        paint.set_color(Color::from_rgba8(0, 0, 24, 64));
        if let Some(path) = path {
            pixels.fill_path(&path, &paint, FillRule::Winding, Transform::identity(), None);
        }
    }
    let main: Vec<[u8; 3]> = thing.main().collect();
    drawing.paint(&mut pixels.as_mut(), |fill| {
        if main.contains(&fill) { shifted(fill, main[0], colour.rgb()) } else { fill }
    });
    pixels
}
