//! XMP packets: metadata of a photo, as RDF in XML.

use std::borrow::Cow;

use image::metadata::Orientation;
use quick_xml::events::attributes::Attribute;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::{NsReader, Writer};

use super::preview::contains_long_base64;

/// Longest packet in bytes.
const MAX_LENGTH: usize = 16 << 20;
/// Deepest nesting of elements.
const MAX_DEPTH: usize = 256;

/// A cleaned packet, for the edited photo.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) xml: Vec<u8>,
    /// Whether it described a gain map.
    pub(super) had_gain_map: bool,
}

const XMP: &str = "http://ns.adobe.com/xap/1.0/";
const THUMBNAIL: &str = "http://ns.adobe.com/xap/1.0/g/img/";
const NOTE: &str = "http://ns.adobe.com/xmp/note/";
const TIFF: &str = "http://ns.adobe.com/tiff/1.0/";
const EXIF: &str = "http://ns.adobe.com/exif/1.0/";
const REGIONS: &str = "http://www.metadataworkinggroup.com/schemas/regions/";
const MICROSOFT_PHOTO: &str = "http://ns.microsoft.com/photo/1.2/";
/// Depth maps, images of the same scene, videos appended to the photo.
const GOOGLE: &str = "http://ns.google.com/photos/";
/// The projection of a panorama: it describes the pixels, not other images.
const GOOGLE_PANORAMA: &str = "http://ns.google.com/photos/1.0/panorama/";
const GAIN_MAPS: [&str; 3] = [
    "http://ns.adobe.com/hdr-gain-map/1.0/",
    "http://ns.apple.com/HDRGainMap/1.0/",
    "http://ns.apple.com/pixeldatainfo/1.0/",
];

/// Removes from a packet whatever contains or refers to an image: thumbnails, depth maps, gain
/// maps, extensions in other segments, comments, long base64. Values that describe the pixels are
/// adapted to `applied`, the orientation that was applied to them; `None` if the file had none, so
/// that a program which follows the packet shows the output like the photo.
///
/// A packet without any of these is returned byte for byte. `None` for a packet that is too long or
/// not XML in UTF-8.
pub(super) fn clean(packet: &[u8], applied: Option<Orientation>) -> Option<Packet> {
    let text = std::str::from_utf8(packet).ok().filter(|text| text.len() <= MAX_LENGTH)?;
    let text = text.trim_start_matches('\u{feff}').trim_end_matches('\0');
    let mut cleaner = Cleaner {
        applied,
        changed: false,
        had_gain_map: false,
        text: None,
        out: Writer::new(Vec::new()),
    };
    cleaner.run(text)?;
    let xml = if cleaner.changed { cleaner.out.into_inner() } else { text.as_bytes().to_vec() };
    Some(Packet { xml, had_gain_map: cleaner.had_gain_map })
}

struct Cleaner<'a> {
    applied: Option<Orientation>,
    changed: bool,
    had_gain_map: bool,
    /// The text of an element so far: references split it into several events.
    text: Option<(Vec<Event<'a>>, String)>,
    out: Writer<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Dropped,
    /// Its value becomes 1 (upright).
    Upright,
}

impl<'a> Cleaner<'a> {
    fn run(&mut self, text: &'a str) -> Option<()> {
        let mut reader = NsReader::from_str(text);
        let (mut depth, mut has_root) = (0_usize, false);
        // Depths of the elements that are being dropped, and whose text is replaced.
        let (mut dropped, mut upright) = (None, None);
        loop {
            let event = reader.read_event().ok()?;
            match event {
                Event::Eof => break,
                Event::Start(_) if depth == MAX_DEPTH => return None,
                Event::Start(start) => {
                    self.flush()?;
                    depth += 1;
                    has_root = true;
                    if dropped.is_some() {
                        continue;
                    }
                    let (namespace, name) = reader.resolver().resolve_element(start.name());
                    match self.fate(&namespace, name.as_ref()) {
                        Fate::Dropped => {
                            dropped = Some(depth);
                            continue;
                        }
                        Fate::Upright => upright = Some(depth),
                        Fate::Kept => {}
                    }
                    let start = self.attributes(&reader, start)?;
                    self.write(Event::Start(start))?;
                }
                Event::Empty(start) => {
                    self.flush()?;
                    has_root = true;
                    let (namespace, name) = reader.resolver().resolve_element(start.name());
                    if dropped.is_some() || self.fate(&namespace, name.as_ref()) == Fate::Dropped {
                        continue;
                    }
                    let start = self.attributes(&reader, start)?;
                    self.write(Event::Empty(start))?;
                }
                Event::End(end) => {
                    if upright == Some(depth) {
                        self.changed |= self.text.as_ref().is_none_or(|(_, text)| text != "1");
                        self.text = None;
                        upright = None;
                        self.out.get_mut().extend(b"1");
                    }
                    self.flush()?;
                    match dropped {
                        Some(at) if at == depth => dropped = None,
                        Some(_) => {}
                        None => self.write(Event::End(end))?,
                    }
                    depth = depth.checked_sub(1)?;
                }
                Event::Text(_) | Event::CData(_) | Event::GeneralRef(_) => {
                    if dropped.is_some() {
                        continue;
                    }
                    let (events, text) = self.text.get_or_insert_default();
                    match &event {
                        Event::Text(part) => text.push_str(part.as_ref()),
                        Event::CData(part) => text.push_str(part.as_ref()),
                        _ => text.push(' '),
                    }
                    events.push(event);
                }
                Event::Comment(_) => self.changed = true,
                // A document type may define entities.
                Event::DocType(_) => return None,
                Event::Decl(_) | Event::PI(_) => {
                    self.flush()?;
                    if dropped.is_none() {
                        self.write(event)?;
                    }
                }
            }
        }
        self.flush()?;
        (depth == 0 && has_root).then_some(())
    }

    fn write(&mut self, event: Event<'_>) -> Option<()> {
        self.out.write_event(event).ok()
    }

    /// Writes the text of an element, unless it is base64.
    fn flush(&mut self) -> Option<()> {
        let Some((events, text)) = self.text.take() else { return Some(()) };
        if contains_long_base64(text.as_bytes()) {
            self.changed = true;
            return Some(());
        }
        for event in events {
            self.write(event)?;
        }
        Some(())
    }

    fn fate(&mut self, namespace: &ResolveResult<'_>, name: &str) -> Fate {
        let ResolveResult::Bound(namespace) = namespace else { return Fate::Kept };
        let namespace: &str = namespace.as_ref();
        let turned = self.applied.is_some_and(|applied| applied != Orientation::NoTransforms);
        let is_gain_map = GAIN_MAPS.contains(&namespace);
        self.had_gain_map |= is_gain_map;
        let dropped = is_gain_map
            || match (namespace, name) {
                (XMP, "Thumbnails") | (NOTE | THUMBNAIL, _) => true,
                (TIFF, "ImageWidth" | "ImageLength") => turned,
                (EXIF, "PixelXDimension" | "PixelYDimension") => turned,
                (EXIF, "SubjectArea" | "SubjectLocation") | (REGIONS, _) => turned,
                (MICROSOFT_PHOTO, "RegionInfo") => turned,
                (EXIF, "MakerNote") => true,
                _ => namespace.starts_with(GOOGLE) && namespace != GOOGLE_PANORAMA,
            };
        match (dropped, namespace, name) {
            (true, ..) => {
                self.changed = true;
                Fate::Dropped
            }
            (false, TIFF, "Orientation") if self.applied.is_some() => Fate::Upright,
            _ => Fate::Kept,
        }
    }

    fn attributes<'e>(
        &mut self,
        reader: &NsReader<&[u8]>,
        start: BytesStart<'e>,
    ) -> Option<BytesStart<'e>> {
        let before = self.changed;
        self.changed = false;
        let mut kept = Vec::new();
        for attribute in start.attributes() {
            let attribute = attribute.ok()?;
            let (namespace, name) = reader.resolver().resolve_attribute(attribute.key);
            // A value marks an item of a container as a gain map.
            self.had_gain_map |= name.as_ref() == "Semantic" && attribute.value == "GainMap";
            let fate = self.fate(&namespace, name.as_ref());
            if fate == Fate::Dropped || contains_long_base64(attribute.value.as_bytes()) {
                self.changed = true;
                continue;
            }
            let upright = fate == Fate::Upright && attribute.value != "1";
            self.changed |= upright;
            let value = if upright { Cow::Borrowed("1") } else { attribute.value.clone() };
            kept.push(Attribute { key: attribute.key, value });
        }
        let changed = self.changed;
        self.changed |= before;
        if !changed {
            return Some(start);
        }
        let name = start.name().as_ref().to_owned();
        let mut start = BytesStart::new(name);
        start.extend_attributes(kept);
        Some(start.into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(attributes: &str, body: &str) -> String {
        format!(
            "<?xpacket begin=\"\u{feff}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\n<x:xmpmeta \
             xmlns:x=\"adobe:ns:meta/\"><rdf:RDF \
             xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\"><rdf:Description \
             xmlns:t=\"{TIFF}\" xmlns:xmp=\"{XMP}\" xmlns:i=\"{THUMBNAIL}\" xmlns:e=\"{EXIF}\" \
             xmlns:g=\"{GAIN}\" xmlns:p=\"{GOOGLE_PANORAMA}\" xmlns:n=\"{NOTE}\"{attributes}>{body}\
             </rdf:Description></rdf:RDF></x:xmpmeta>\n<?xpacket end=\"w\"?>",
            GAIN = GAIN_MAPS[0],
        )
    }

    fn cleaned(attributes: &str, body: &str, applied: Option<Orientation>) -> (String, bool) {
        let packet = clean(packet(attributes, body).as_bytes(), applied).unwrap();
        (String::from_utf8(packet.xml).unwrap(), packet.had_gain_map)
    }

    #[test]
    fn keeps_what_describes_the_photo() {
        let upright = Some(Orientation::NoTransforms);
        for (attributes, body) in [
            (" p:ProjectionType=\"equirectangular\"", ""),
            (
                " xmp:Rating='4' t:Make=\"a &amp; b\"",
                "<xmp:Label>a &lt; b<![CDATA[<c>]]></xmp:Label>",
            ),
            (" t:Orientation=\"1\"", "<t:Orientation>1</t:Orientation>"),
        ] {
            for applied in [None, upright] {
                assert_eq!(cleaned(attributes, body, applied).0, packet(attributes, body));
            }
        }
    }

    #[test]
    fn drops_values_that_contain_or_refer_to_an_image() {
        let base64 = "/9j/4AAQSkZJRgABAQEASABIAAD".repeat(12);
        let lines = format!("{}&#xA;", &base64[..70]).repeat(5);
        let thumbnail = "<xmp:Thumbnails><rdf:Alt><rdf:li rdf:parseType=\"Resource\"><i:image>AA\
                         </i:image></rdf:li></rdf:Alt></xmp:Thumbnails>";
        for (attributes, body, attributes_left, body_left) in [
            ("", thumbnail, "", ""),
            (" xmp:Label=\"x\" i:image=\"AA\"", "", " xmp:Label=\"x\"", ""),
            ("", "<q xmlns=\"http://ns.adobe.com/xap/1.0/g/img/\"/><xmp:a/>", "", "<xmp:a/>"),
            (" n:HasExtendedXMP=\"00\"", "<!-- AA -->", "", ""),
            (
                "",
                &format!("<e:UserComment>{base64}</e:UserComment>"),
                "",
                "<e:UserComment></e:UserComment>",
            ),
            ("", &format!("<xmp:a>{lines}</xmp:a>"), "", "<xmp:a></xmp:a>"),
            (&format!(" xmp:Label=\"{lines}\""), "", "", ""),
        ] {
            let (left, _) = cleaned(attributes, body, None);
            assert_eq!(left, packet(attributes_left, body_left));
        }
        let (left, had_gain_map) = cleaned(" g:Version=\"1.0\" g:GainMapMin='1'", "", None);
        assert!(had_gain_map && left == packet("", ""), "{left}");
    }

    #[test]
    fn describes_the_turned_pixels() {
        let before =
            (" t:Orientation=\"6\" t:ImageWidth=\"9\"", "<t:Orientation>6</t:Orientation>");
        let after = packet(" t:Orientation=\"1\"", "<t:Orientation>1</t:Orientation>");
        assert_eq!(cleaned(before.0, before.1, Some(Orientation::Rotate90)).0, after);
        assert_eq!(cleaned(before.0, before.1, None).0, packet(before.0, before.1));
    }

    #[test]
    fn rejects_invalid_packets() {
        let deep = format!("{}{}", "<a>".repeat(300), "</a>".repeat(300));
        for text in ["", "text", "<a>", "<a></b>", "</a>", "<!DOCTYPE a []><a/>", "<a b=1/>", &deep]
        {
            assert_eq!(clean(text.as_bytes(), None), None, "{text}");
        }
        assert_eq!(clean(b"<a>\xff</a>", None), None);
        assert_eq!(
            clean(
                "<a/>".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>().as_slice(),
                None
            ),
            None
        );
    }
}
