//! Invalid and unusable photos and masks.

use crate::images::{png, png_that_claims};
use crate::program::{CAT, Edit, Scratch, root};

#[test]
fn rejects_unusable_photos() {
    let scratch = Scratch::new();
    let cat = std::fs::read(root().join(CAT)).unwrap();
    let grey = png(64, 64, |x| x as u8);
    let flipped = |mut bytes: Vec<u8>, at: usize| {
        bytes[at] ^= 0xFF;
        bytes
    };
    let is = "expected a PNG, JPEG, WebP, BMP, TIFF or GIF image, got ";
    let cases: [(&str, Vec<u8>, &[&str]); 16] = [
        ("empty.jpg", vec![], &["expected an image, got an empty file"]),
        ("text.png", b"hello world".to_vec(), &[is, "hello wo"]),
        ("one-byte.png", vec![b'x'], &[is, "\"x\""]),
        ("phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0".to_vec(), &[is, "HEIC"]),
        ("half.jpg", cat[..cat.len() / 2].to_vec(), &["damaged JPEG", "end of the image"]),
        ("head.jpg", cat[..100].to_vec(), &["damaged JPEG"]),
        ("start.jpg", cat[..3].to_vec(), &["damaged JPEG"]),
        ("half.png", grey[..grey.len() / 2].to_vec(), &["damaged PNG"]),
        ("signature.png", grey[..8].to_vec(), &["damaged PNG"]),
        ("checksum.png", flipped(grey, 30), &["damaged PNG"]),
        ("short.png", png_that_claims(64, 64), &["damaged PNG"]),
        ("zero.png", png_that_claims(0, 0), &["damaged PNG"]),
        ("narrow.png", png(1, 300, |_| 0), &["1x300 pixels", "at least 8"]),
        ("flat.png", png(300, 7, |_| 0), &["300x7 pixels", "at least 8"]),
        (
            "huge.png",
            png_that_claims(100_000, 100_000),
            &["100000x100000", "50 megapixels", "--max-megapixels"],
        ),
        (
            "large.png",
            png_that_claims(10_000, 10_000),
            &["10000x10000", "50 megapixels", "--max-megapixels"],
        ),
    ];
    for (name, bytes, named) in cases {
        let mut edit = Edit::new(scratch.out("o.png")).quick();
        edit.photo = scratch.write(name, bytes);
        edit.run().refused(name, &[&[name], named].concat());
        scratch.assert_nothing_written(name);
    }
    let mut edit = Edit::new(scratch.out("o.png")).quick();
    edit.photo = scratch.path("nowhere.jpg");
    edit.run().refused("missing", &["can't read", "nowhere.jpg"]);
    // One token here is 4 pixels: 12 of them on a side of 48.
    edit.photo = scratch.write("strip.png", png(16384, 8, |_| 0));
    edit.run().refused("strip", &["16384x8", "ratio of at most 144:1 at size 48"]);
    edit.photo = scratch.path("out");
    edit.run().refused("folder", &["expected an image file, got a folder"]);
    let edit = Edit::new(scratch.out("o.png")).quick().with("--max-megapixels 0.1");
    edit.run().refused("limit", &["300x451", "0.1 megapixels", "--max-megapixels"]);
    scratch.assert_nothing_written("photo");
}

#[test]
fn rejects_unusable_masks() {
    let scratch = Scratch::new();
    let cases: [(&str, Vec<u8>, &[&str]); 6] = [
        ("text.png", b"hello world".to_vec(), &["text.png", "expected a PNG"]),
        ("empty.png", vec![], &["empty.png", "empty file"]),
        ("lying.png", png(300, 451, |_| 255), &["300x451", "451x300", "upright"]),
        ("square.png", png(300, 300, |_| 255), &["300x300", "451x300"]),
        ("black.png", png(451, 300, |_| 0), &["black.png", "brightest level is 0 of 255"]),
        ("huge.png", png_that_claims(90_200, 60_000), &["90200x60000", "--max-megapixels"]),
    ];
    for (name, bytes, named) in cases {
        let mask = scratch.write(name, bytes);
        let edit = Edit::new(scratch.out("o.png")).quick().with_path("--mask", &mask);
        edit.run().refused(name, &[&[name], named].concat());
        scratch.assert_nothing_written(name);
    }
    let nowhere = scratch.path("nowhere.png");
    let edit = Edit::new(scratch.out("o.png")).quick().with_path("--mask", &nowhere);
    edit.run().refused("missing", &["can't read", "nowhere.png"]);
    // Faults of the photo are found before the model is loaded.
    let lying = scratch.write("lying.png", png(300, 451, |_| 255));
    let mut edit = Edit::new(scratch.out("o.png")).with_path("--mask", &lying);
    edit.model = scratch.path("nowhere");
    edit.run().refused("early", &["300x451"]);
    scratch.assert_nothing_written("mask");
}
