//! Sprites: SVG files of filled paths, and their recolouring.

use roxmltree::{Document, Node};
use svgtypes::{SimplePathSegment, SimplifyingPathParser};
use tiny_skia::{
    Color, FillRule, Paint, Path, PathBuilder, PixmapMut, PremultipliedColorU8, Transform,
};

/// Units along each side of every sprite's view box.
pub(super) const UNITS: f32 = 32.0;

/// A sprite: filled paths, painted in this order.
#[derive(Debug)]
pub(super) struct Drawing {
    paths: Vec<(Path, FillRule, [u8; 3])>,
}

impl Drawing {
    /// Parses the SVG subset used by the sprites: groups of paths with plain fills, in a view box
    /// of [`UNITS`]. The error names unsupported content.
    pub(super) fn parse(svg: &str) -> Result<Self, String> {
        let document = Document::parse(svg).map_err(|error| error.to_string())?;
        let root = document.root_element();
        let view = root.attribute("viewBox").unwrap_or_default();
        if view != "0 0 32 32" {
            return Err(format!("viewBox: expected 0 0 32 32, got {view:?}"));
        }
        let mut paths = Vec::new();
        for node in root.descendants().filter(Node::is_element) {
            match node.tag_name().name() {
                "svg" | "g" => {}
                "path" => paths.push(filled_path(node)?),
                other => return Err(format!("expected svg, g or path, got {other}")),
            }
        }
        Ok(Self { paths })
    }

    /// Its fills, in the order of its paths.
    #[cfg(test)]
    pub(super) fn fills(&self) -> impl Iterator<Item = [u8; 3]> {
        self.paths.iter().map(|(.., fill)| *fill)
    }

    /// Paints it as large as a square `target`, each fill changed by `recolour`.
    pub(super) fn paint(&self, target: &mut PixmapMut<'_>, recolour: impl Fn([u8; 3]) -> [u8; 3]) {
        let scale = target.width() as f32 / UNITS;
        for (path, rule, fill) in &self.paths {
            let [r, g, b] = recolour(*fill);
            let mut paint = Paint::default();
            paint.set_color(Color::from_rgba8(r, g, b, 255));
            target.fill_path(path, &paint, *rule, Transform::from_scale(scale, scale), None);
        }
    }
}

/// A premultiplied pixel over an opaque one.
pub(super) fn over(pixel: PremultipliedColorU8, under: [u8; 3]) -> [u8; 3] {
    let rest = 255 - u32::from(pixel.alpha());
    let mix = |over: u8, under: u8| (u32::from(over) + (u32::from(under) * rest + 127) / 255) as u8;
    [mix(pixel.red(), under[0]), mix(pixel.green(), under[1]), mix(pixel.blue(), under[2])]
}

fn filled_path(node: Node<'_, '_>) -> Result<(Path, FillRule, [u8; 3]), String> {
    let known = ["d", "fill", "fill-rule", "clip-rule"];
    if let Some(other) = node.attributes().find(|a| !known.contains(&a.name())) {
        return Err(format!("path: expected no attribute but {known:?}, got {}", other.name()));
    }
    let fill = node.attribute("fill").unwrap_or_default();
    let fill = hex(fill).ok_or_else(|| format!("fill: expected #rgb or #rrggbb, got {fill:?}"))?;
    let rule = match node.attribute("fill-rule") {
        Some("evenodd") => FillRule::EvenOdd,
        _ => FillRule::Winding,
    };
    let mut path = PathBuilder::new();
    for segment in SimplifyingPathParser::from(node.attribute("d").unwrap_or_default()) {
        let f = |x: f64| x as f32;
        match segment.map_err(|error| format!("d: {error}"))? {
            SimplePathSegment::MoveTo { x, y } => path.move_to(f(x), f(y)),
            SimplePathSegment::LineTo { x, y } => path.line_to(f(x), f(y)),
            SimplePathSegment::Quadratic { x1, y1, x, y } => {
                path.quad_to(f(x1), f(y1), f(x), f(y));
            }
            SimplePathSegment::CurveTo { x1, y1, x2, y2, x, y } => {
                path.cubic_to(f(x1), f(y1), f(x2), f(y2), f(x), f(y));
            }
            SimplePathSegment::ClosePath => path.close(),
        }
    }
    let path = path.finish().ok_or_else(|| "d: expected a path, got nothing".to_owned())?;
    Ok((path, rule, fill))
}

fn hex(colour: &str) -> Option<[u8; 3]> {
    let digits: Vec<u8> = colour
        .strip_prefix('#')?
        .chars()
        .map(|c| c.to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()?;
    match digits[..] {
        [r, g, b] => Some([r * 17, g * 17, b * 17]),
        [r, r2, g, g2, b, b2] => Some([r * 16 + r2, g * 16 + g2, b * 16 + b2]),
        _ => None,
    }
}

/// Recolours a fill of the main family when its first fill, `base`, becomes `target`: the hue of
/// `target`, with saturation and lightness shifted as the fill's differ from those of `base`. The
/// base itself becomes `target` exactly.
pub(super) fn shifted(fill: [u8; 3], base: [u8; 3], target: [u8; 3]) -> [u8; 3] {
    if fill == base {
        return target;
    }
    let ([_, fill_s, fill_l], [_, base_s, base_l], [hue, s, l]) =
        (hsl(fill), hsl(base), hsl(target));
    let saturation = match (base_s > GREY, fill_s > GREY) {
        (true, true) => s * (fill_s / base_s).min(1.15),
        // A grey of the family becomes a pale shade of the target.
        (true, false) => s * 0.6,
        (false, _) => s,
    };
    rgb([hue, saturation.clamp(0.0, 1.0), (l + 0.8 * (fill_l - base_l)).clamp(0.08, 0.94)])
}

/// Saturation below which a colour counts as grey.
const GREY: f32 = 0.05;

/// Hue in turns, saturation and lightness 0..=1.
fn hsl(colour: [u8; 3]) -> [f32; 3] {
    let [r, g, b] = colour.map(|value| f32::from(value) / 255.0);
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    let (lightness, chroma) = ((high + low) / 2.0, high - low);
    if chroma == 0.0 {
        return [0.0, 0.0, lightness];
    }
    let hue = if high == r {
        ((g - b) / chroma).rem_euclid(6.0)
    } else if high == g {
        (b - r) / chroma + 2.0
    } else {
        (r - g) / chroma + 4.0
    };
    [hue / 6.0, chroma / (1.0 - (2.0 * lightness - 1.0).abs()), lightness]
}

fn rgb([hue, saturation, lightness]: [f32; 3]) -> [u8; 3] {
    let chroma = (1.0 - (2.0 * lightness - 1.0).abs()) * saturation;
    let sector = hue * 6.0;
    let second = chroma * (1.0 - (sector.rem_euclid(2.0) - 1.0).abs());
    let (r, g, b) = match sector as u32 {
        0 => (chroma, second, 0.0),
        1 => (second, chroma, 0.0),
        2 => (0.0, chroma, second),
        3 => (0.0, second, chroma),
        4 => (second, 0.0, chroma),
        _ => (chroma, 0.0, second),
    };
    let low = lightness - chroma / 2.0;
    [r, g, b].map(|value| ((value + low) * 255.0).round().clamp(0.0, 255.0) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_survive_the_way_to_hsl_and_back() {
        for colour in [[248, 49, 47], [0, 166, 237], [255, 255, 255], [33, 33, 33], [134, 215, 47]]
        {
            assert_eq!(rgb(hsl(colour)), colour);
        }
    }

    #[test]
    fn the_base_becomes_the_target_and_darker_fills_stay_darker() {
        let (base, dark, target) = ([243, 173, 97], [211, 136, 62], [58, 120, 220]);
        assert_eq!(shifted(base, base, target), target);
        let got = shifted(dark, base, target);
        assert!(got.iter().zip(target).all(|(got, target)| *got <= target), "{got:?}");
        assert!((hsl(got)[0] - hsl(target)[0]).abs() < 0.01, "{got:?}");
    }

    #[test]
    fn unsupported_svg_content_is_named() {
        let svg = |body: &str| {
            let svg =
                format!("<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'>{body}</svg>");
            Drawing::parse(&svg).unwrap_err()
        };
        for (body, named) in [
            ("<circle r='1'/>", "circle"),
            ("<path d='M0 0h1v1z' fill='red'/>", "red"),
            ("<path d='M0 0h1v1z' fill='#fff' opacity='.5'/>", "opacity"),
            ("<path d='M0 0 x' fill='#fff'/>", "d:"),
            ("<path fill='#fff'/>", "d: expected a path"),
        ] {
            let message = svg(body);
            assert!(message.contains(named), "{body}: {message}");
        }
        let other = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'/>";
        assert!(Drawing::parse(other).unwrap_err().contains("16"));
    }
}
