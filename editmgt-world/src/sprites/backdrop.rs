//! Backgrounds: distinct images of gradients, hills, clouds and waves.

use image::{Rgb, RgbImage};
use tiny_skia::{
    Color, FillRule, GradientStop, LinearGradient, Paint, Path, PathBuilder, Pixmap, Point, Rect,
    SpreadMode, Transform,
};

use super::names::Background;

/// The image of a background, `canvas` pixels along each side.
pub(super) fn backdrop(background: Background, canvas: u32) -> RgbImage {
    let mut scene = Backdrop {
        pixels: Pixmap::new(canvas, canvas).expect("a canvas has at least one pixel"),
        scale: canvas as f32 / 128.0,
    };
    match background {
        Background::Meadow => scene.meadow(),
        Background::Beach => scene.beach(),
        Background::Snow => scene.snow(),
        Background::City => scene.city(),
        Background::Desert => scene.desert(),
        Background::Sea => scene.sea(),
        Background::Forest => scene.forest(),
        Background::Room => scene.room(),
    }
    RgbImage::from_fn(canvas, canvas, |x, y| {
        let pixel = scene.pixels.pixels()[(y * canvas + x) as usize];
        Rgb([pixel.red(), pixel.green(), pixel.blue()])
    })
}

/// An image being painted; coordinates are those of a canvas of 128.
struct Backdrop {
    pixels: Pixmap,
    scale: f32,
}

impl Backdrop {
    fn meadow(&mut self) {
        self.gradient(0.0, 72.0, [116, 190, 244], [214, 238, 250]);
        self.circle(106.0, 20.0, 10.0, [255, 236, 150]);
        self.cloud(30.0, 22.0, 1.0, [250, 252, 254]);
        self.cloud(78.0, 36.0, 0.7, [240, 248, 252]);
        self.hill(62.0, &[54.0, 64.0, 50.0, 60.0], [150, 204, 132]);
        self.hill(80.0, &[76.0, 68.0, 80.0, 72.0], [126, 190, 98]);
        self.hill(100.0, &[92.0, 102.0, 96.0, 104.0], [104, 174, 82]);
    }

    fn beach(&mut self) {
        self.gradient(0.0, 48.0, [104, 190, 240], [206, 236, 248]);
        self.circle(24.0, 18.0, 9.0, [255, 240, 176]);
        self.cloud(86.0, 20.0, 0.9, [248, 252, 254]);
        self.gradient(46.0, 76.0, [38, 134, 196], [92, 194, 216]);
        self.hill(76.0, &[72.0, 76.0, 71.0, 75.0], [236, 248, 246]);
        self.hill(80.0, &[75.0, 79.0, 74.0, 78.0], [244, 222, 172]);
        self.hill(106.0, &[108.0, 100.0, 110.0, 104.0], [236, 208, 152]);
    }

    fn snow(&mut self) {
        self.gradient(0.0, 76.0, [150, 190, 222], [224, 236, 244]);
        self.hill(52.0, &[60.0, 40.0, 62.0, 46.0], [198, 216, 232]);
        for (x, height) in [(10.0, 30.0), (26.0, 22.0), (98.0, 24.0), (114.0, 34.0)] {
            self.fir(x, 74.0, height);
        }
        self.hill(74.0, &[70.0, 76.0, 68.0, 72.0], [240, 245, 250]);
        self.hill(100.0, &[104.0, 94.0, 106.0, 98.0], [226, 235, 244]);
    }

    fn city(&mut self) {
        self.gradient(0.0, 100.0, [20, 24, 62], [74, 66, 120]);
        self.circle(100.0, 20.0, 9.0, [246, 240, 206]);
        let far =
            [(0.0, 44.0), (16.0, 56.0), (40.0, 38.0), (64.0, 52.0), (88.0, 42.0), (112.0, 54.0)];
        for (x, top) in far {
            self.rect(x, top, 16.0, 64.0, [42, 44, 88]);
        }
        let near = [(4.0, 64.0), (28.0, 54.0), (52.0, 66.0), (76.0, 56.0), (100.0, 62.0)];
        for (i, (x, top)) in near.into_iter().enumerate() {
            self.rect(x, top, 20.0, 48.0, [30, 31, 64]);
            for row in 0..4 {
                for column in 0..3 {
                    if (i + 2 * row + column) % 3 != 0 {
                        let (x, y) = (x + 3.0 + 5.0 * column as f32, top + 5.0 + 8.0 * row as f32);
                        self.rect(x, y, 3.0, 4.0, [250, 214, 120]);
                    }
                }
            }
        }
        self.gradient(98.0, 128.0, [64, 66, 88], [48, 50, 70]);
        self.rect(0.0, 96.0, 128.0, 3.0, [96, 98, 120]);
    }

    fn desert(&mut self) {
        self.gradient(0.0, 70.0, [246, 164, 92], [254, 226, 170]);
        self.circle(92.0, 34.0, 13.0, [255, 244, 206]);
        self.polygon(&[(8.0, 66.0), (14.0, 44.0), (38.0, 44.0), (46.0, 66.0)], [206, 122, 76]);
        self.polygon(&[(48.0, 66.0), (53.0, 53.0), (68.0, 53.0), (74.0, 66.0)], [216, 136, 86]);
        self.hill(66.0, &[64.0, 60.0, 68.0, 62.0], [236, 178, 108]);
        self.hill(84.0, &[92.0, 76.0, 90.0, 80.0], [224, 160, 90]);
        self.hill(108.0, &[100.0, 114.0, 102.0, 110.0], [210, 144, 78]);
    }

    fn sea(&mut self) {
        self.gradient(0.0, 44.0, [140, 200, 240], [226, 240, 248]);
        self.cloud(92.0, 20.0, 0.9, [252, 253, 254]);
        self.cloud(30.0, 28.0, 0.6, [246, 250, 252]);
        for (i, (top, colour)) in [
            (42.0, [96, 176, 218]),
            (58.0, [64, 152, 206]),
            (78.0, [42, 128, 190]),
            (102.0, [28, 106, 170]),
        ]
        .into_iter()
        .enumerate()
        {
            let shift = if i % 2 == 0 { 3.0 } else { -3.0 };
            let crest: Vec<f32> =
                (0..8).map(|at| top + if at % 2 == 0 { shift } else { -shift }).collect();
            self.hill(top, &crest, colour);
        }
    }

    fn forest(&mut self) {
        self.gradient(0.0, 92.0, [206, 232, 178], [150, 200, 136]);
        for x in [22.0, 62.0, 98.0] {
            self.rect(x, 24.0, 5.0, 66.0, [128, 150, 104]);
        }
        for (x, width) in [(4.0, 9.0), (42.0, 8.0), (80.0, 9.0), (114.0, 8.0)] {
            self.rect(x, 16.0, width, 80.0, [116, 84, 58]);
        }
        for (x, y, radius) in [
            (6.0, 6.0, 20.0),
            (34.0, 2.0, 18.0),
            (62.0, 4.0, 20.0),
            (92.0, 2.0, 19.0),
            (120.0, 6.0, 20.0),
        ] {
            self.circle(x, y, radius, [58, 124, 66]);
        }
        self.hill(90.0, &[86.0, 92.0, 88.0, 94.0], [108, 160, 86]);
        self.hill(110.0, &[112.0, 106.0, 114.0, 108.0], [90, 144, 74]);
    }

    fn room(&mut self) {
        self.rect(0.0, 0.0, 128.0, 88.0, [242, 226, 198]);
        self.rect(20.0, 12.0, 44.0, 44.0, [252, 250, 244]);
        self.rect(24.0, 16.0, 36.0, 36.0, [152, 208, 244]);
        self.rect(40.0, 16.0, 4.0, 36.0, [252, 250, 244]);
        self.rect(24.0, 32.0, 36.0, 4.0, [252, 250, 244]);
        self.rect(84.0, 20.0, 28.0, 24.0, [150, 108, 76]);
        self.rect(88.0, 24.0, 20.0, 16.0, [206, 224, 190]);
        self.rect(0.0, 84.0, 128.0, 5.0, [250, 244, 232]);
        self.gradient(88.0, 128.0, [186, 132, 86], [160, 108, 68]);
        for y in [96.0, 112.0] {
            self.rect(0.0, y, 128.0, 1.0, [138, 92, 58]);
        }
    }

    fn fill(&mut self, path: Option<Path>, [r, g, b]: [u8; 3]) {
        let Some(path) = path else { return };
        let mut paint = Paint::default();
        paint.set_color(Color::from_rgba8(r, g, b, 255));
        let scale = Transform::from_scale(self.scale, self.scale);
        self.pixels.fill_path(&path, &paint, FillRule::Winding, scale, None);
    }

    /// From `top` to the bottom of the canvas, one colour at `top`, the other at `bottom` and
    /// below.
    fn gradient(&mut self, top: f32, bottom: f32, from: [u8; 3], to: [u8; 3]) {
        let stop = |at, [r, g, b]: [u8; 3]| GradientStop::new(at, Color::from_rgba8(r, g, b, 255));
        let shader = LinearGradient::new(
            Point::from_xy(0.0, top),
            Point::from_xy(0.0, bottom),
            vec![stop(0.0, from), stop(1.0, to)],
            SpreadMode::Pad,
            Transform::identity(),
        );
        let (Some(shader), Some(rect)) = (shader, Rect::from_xywh(0.0, top, 128.0, 128.0 - top))
        else {
            return;
        };
        let paint = Paint { shader, ..Paint::default() };
        let scale = Transform::from_scale(self.scale, self.scale);
        self.pixels.fill_rect(rect, &paint, scale, None);
    }

    fn rect(&mut self, x: f32, y: f32, width: f32, height: f32, colour: [u8; 3]) {
        self.fill(Rect::from_xywh(x, y, width, height).map(PathBuilder::from_rect), colour);
    }

    fn circle(&mut self, x: f32, y: f32, radius: f32, colour: [u8; 3]) {
        self.fill(PathBuilder::from_circle(x, y, radius), colour);
    }

    fn polygon(&mut self, corners: &[(f32, f32)], colour: [u8; 3]) {
        let mut path = PathBuilder::new();
        for (i, &(x, y)) in corners.iter().enumerate() {
            if i == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
        }
        path.close();
        self.fill(path.finish(), colour);
    }

    /// Everything below a smooth line through points of these heights, evenly spaced; the line
    /// starts at `start`.
    fn hill(&mut self, start: f32, heights: &[f32], colour: [u8; 3]) {
        let mut path = PathBuilder::new();
        path.move_to(0.0, start);
        let width = 128.0 / heights.len() as f32;
        let mut last = start;
        for (i, &height) in heights.iter().enumerate() {
            let (left, right) = (i as f32 * width, (i + 1) as f32 * width);
            let middle = (left + right) / 2.0;
            path.cubic_to(middle, last, middle, height, right, height);
            last = height;
        }
        path.line_to(128.0, 128.0);
        path.line_to(0.0, 128.0);
        path.close();
        self.fill(path.finish(), colour);
    }

    fn cloud(&mut self, x: f32, y: f32, size: f32, colour: [u8; 3]) {
        for (dx, dy, radius) in [(-11.0, 2.0, 6.0), (0.0, 0.0, 9.0), (11.0, 2.0, 7.0)] {
            self.circle(x + dx * size, y + dy * size, radius * size, colour);
        }
        self.rect(x - 11.0 * size, y + 2.0 * size, 22.0 * size, 7.0 * size, colour);
    }

    fn fir(&mut self, x: f32, ground: f32, height: f32) {
        for (from, to, half) in [(0.0, 0.6, 0.34), (0.4, 1.0, 0.24)] {
            let (low, high) = (ground - from * height, ground - to * height);
            let half = half * height;
            self.polygon(&[(x - half, low), (x, high), (x + half, low)], [64, 112, 104]);
        }
    }
}
