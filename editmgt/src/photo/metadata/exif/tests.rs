use super::*;

/// A block in the given order: numbers of each entry are written by `kind`.
fn block(order: Order, entries: &[(u16, u16, Vec<u8>)], next: &[(u16, u16, Vec<u8>)]) -> Vec<u8> {
    let entry = |(tag, kind, value): &(u16, u16, Vec<u8>)| Entry {
        tag: *tag,
        kind: *kind,
        value: value.clone(),
    };
    let camera = |entries: &[(u16, u16, Vec<u8>)]| CameraData {
        order,
        main: entries.iter().map(entry).collect(),
        ..CameraData::empty()
    };
    let mut first = camera(entries).to_block();
    if !next.is_empty() {
        // The second directory follows the first, its values follow it.
        let second = camera(next).to_block();
        let count = entries.len();
        let link = 8 + 2 + 12 * count;
        let shift = (first.len() - 8) as u32;
        let place = first.len() as u32;
        let bytes = if order == Order::Big { place.to_be_bytes() } else { place.to_le_bytes() };
        first[link..link + 4].copy_from_slice(&bytes);
        let mut second = second[8..].to_vec();
        for (i, entry) in next.iter().enumerate() {
            let at = 2 + 12 * i + 8;
            if entry.2.len() > 4 {
                let value = order.u32(&second, at).unwrap() + shift;
                let bytes =
                    if order == Order::Big { value.to_be_bytes() } else { value.to_le_bytes() };
                second[at..at + 4].copy_from_slice(&bytes);
            }
        }
        first.extend(second);
    }
    first
}

fn text(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

#[test]
fn orientation_is_read_from_every_integer_type_in_both_orders() {
    let six = |width: usize| {
        let mut value = vec![0; width];
        value[0] = 6;
        value
    };
    for order in [Order::Little, Order::Big] {
        for (kind, width) in [(1, 1), (3, 2), (4, 4), (6, 1), (7, 1), (8, 2), (9, 4)] {
            // One number, and several, of which the first counts and is not inline.
            for count in [1, 5] {
                let bytes = block(order, &[(ORIENTATION, kind, six(width).repeat(count))], &[]);
                let read = read_block(&bytes).unwrap();
                assert_eq!(read.orientation, Some(Orientation::Rotate90), "{order:?} {kind}");
                let mut camera = read.camera;
                camera.turn(Orientation::Rotate90, PixelSize::new(8, 9));
                let upright = read_block(&camera.to_block()).unwrap().orientation;
                assert_eq!(upright, Some(Orientation::NoTransforms));
            }
        }
    }
    for (kind, value) in [(2, vec![b'6', 0]), (3, vec![9, 0]), (3, vec![0, 0]), (8, vec![0xff; 2])]
    {
        let bytes = block(Order::Little, &[(ORIENTATION, kind, value)], &[]);
        assert_eq!(read_block(&bytes).unwrap().orientation, None, "{kind}");
    }
}

#[test]
fn prefixes_of_a_jpeg_segment_are_skipped() {
    let bytes = block(Order::Big, &[(ORIENTATION, SHORT, vec![3, 0])], &[]);
    for prefix in [&b""[..], b"Exif\0\0", b"Exif\0\xff"] {
        let read = read_block(&[prefix, &bytes].concat()).unwrap();
        assert_eq!(read.orientation, Some(Orientation::Rotate180));
    }
}

#[test]
fn defined_tags_are_kept_and_nothing_else() {
    for order in [Order::Little, Order::Big] {
        let preview = vec![0xab; 500];
        let entries = [
            (0x010f, 2, text("Maker of cameras\0")),
            (0x0110, 2, text("M\0")),
            (0x0201, LONG, vec![8, 0, 0, 0]),
            (XMP, 1, preview.clone()),
            (0x8649, 7, preview.clone()),
            (0xc4a5, 7, preview.clone()),
        ];
        let thumbnail = [(0x0103, SHORT, vec![6, 0]), (0x010e, 2, preview.clone())];
        let mut bytes = block(order, &entries, &thumbnail);
        bytes.extend(&preview);
        let read = read_block(&bytes).unwrap();
        assert!(read.had_private && !read.damaged);
        let written = read.camera.to_block();
        assert!(!written.contains(&0xab));
        assert_eq!(written, block(order, &entries[..2], &[]));
    }
}

#[test]
fn image_in_a_defined_tag_is_dropped() {
    let picture = [&[b'.'; 100][..], b"\xff\xd8\xff\xe0"].concat();
    let base64 = "/9j/4AAQSkZJRgABAQEASABIAAD".repeat(12).into_bytes();
    for value in [picture, base64] {
        let bytes = block(Order::Little, &[(0x010e, 2, value)], &[]);
        let read = read_block(&bytes).unwrap();
        assert!(read.had_private && read.camera.is_empty());
    }
}

#[test]
fn directories_come_back_as_they_were() {
    for order in [Order::Little, Order::Big] {
        let entry = |tag, kind, value: Vec<u8>| Entry { tag, kind, value };
        let camera = CameraData {
            order,
            main: vec![entry(0x010f, 2, text("Maker\0")), entry(0x013b, 2, text("A\0"))],
            exif: vec![
                entry(0x829a, RATIONAL, vec![1, 0, 0, 0, 125, 0, 0, 0]),
                entry(0x9286, 7, text("UNICODE\0a\0b\0c")),
            ],
            gps: vec![entry(1, 2, text("N\0")), entry(2, RATIONAL, vec![7; 24])],
            interop: vec![entry(1, 2, text("R03\0"))],
        };
        let read = read_block(&camera.to_block()).unwrap();
        assert_eq!(read.camera, camera);
        assert!(!read.damaged && !read.had_private);
    }
}

#[test]
fn rotation_adapts_size_dependent_tags() {
    let entry = |tag, kind, value: &[u8]| Entry { tag, kind, value: value.to_vec() };
    let (three, two) = ([3, 0, 0, 0, 1, 0, 0, 0], [2, 0, 0, 0, 1, 0, 0, 0]);
    let mut camera = CameraData {
        main: vec![entry(X_RESOLUTION, RATIONAL, &three), entry(Y_RESOLUTION, RATIONAL, &two)],
        exif: vec![
            entry(SUBJECT_AREA, SHORT, &[1, 0, 1, 0]),
            entry(PIXEL_X_DIMENSION, SHORT, &[9, 0]),
            entry(PIXEL_Y_DIMENSION, SHORT, &[8, 0]),
        ],
        ..CameraData::empty()
    };
    let before = camera.resolution().unwrap();
    assert_eq!((before.x, before.y), ((3, 1), (2, 1)));
    camera.turn(Orientation::Rotate90, PixelSize::new(9, 8));
    assert_eq!(camera.resolution(), Some(before.transposed()));
    let dimensions = [
        entry(PIXEL_X_DIMENSION, LONG, &[8, 0, 0, 0]),
        entry(PIXEL_Y_DIMENSION, LONG, &[9, 0, 0, 0]),
    ];
    assert_eq!(camera.exif, dimensions);
}

#[test]
fn damage_is_noticed_and_the_rest_kept() {
    let entries = [(0x010f, 2, text("Maker of cameras\0")), (0x0110, 2, text("M\0"))];
    let whole = block(Order::Little, &entries, &[]);
    let cut = read_block(&whole[..whole.len() - 4]).unwrap();
    assert!(cut.damaged);
    assert_eq!(cut.camera.main.len(), 1);
    for length in 0..8 + 2 + 24 {
        assert!(read_block(&whole[..length]).is_none(), "cut to {length}");
    }
    // Overlapping values, so that the copy would be larger than the block.
    let mut entries = Vec::new();
    for tag in [0x010d, 0x010e, 0x010f, 0x0110] {
        entries.push((tag, 2, vec![b'.'; 300]));
    }
    let mut overlapping = block(Order::Little, &entries, &[]);
    let first = overlapping[8 + 2 + 8..8 + 2 + 12].to_vec();
    for i in 1..4 {
        let at = 8 + 2 + 12 * i + 8;
        overlapping[at..at + 4].copy_from_slice(&first);
    }
    overlapping.truncate(8 + 2 + 48 + 4 + 300);
    let read = read_block(&overlapping).unwrap();
    assert!(read.damaged && read.camera.main.len() == 1);
}
