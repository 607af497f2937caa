//! `editmgt-lab plans`.

use crate::program::{Scratch, lab};

#[test]
fn a_plot_and_its_numbers_are_written() {
    let scratch = Scratch::new();
    let out = scratch.out("plans");
    let args = "plans --preset tiny --sizes 64 --shares 25,100 --plans cached:2,cached:never:1 --steps 4 \
                --exact-steps 1 --dtypes f32,bf16 --threads 1 -o";
    let table = lab(args.split_whitespace().chain([out.to_str().unwrap()])).done();
    let csv = std::fs::read_to_string(scratch.out("plans.csv")).unwrap();
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0][..5], ["dtype", "size", "plan", "edited_share", "steps"]);
    let edits: Vec<_> = rows[1..].iter().map(|row| row[..4].join(" ")).collect();
    let of = |dtype: &str| {
        ["exact 0.25", "cached:2 0.25", "cached:2 1", "cached:never:1 0.25", "cached:never:1 1"]
            .map(|edit| format!("{dtype} 64 {edit}"))
    };
    assert_eq!(edits, [of("f32"), of("bf16")].concat());
    assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{csv}");
    assert_eq!(table.lines().count(), rows.len(), "{table}");
    let svg = std::fs::read_to_string(scratch.out("plans.svg")).unwrap();
    for text in ["seconds of an edit, 64x64, f32", "64x64, bf16", "cached:never:1"] {
        assert!(svg.contains(text), "{text}: {svg}");
    }
}

#[test]
fn rejects_invalid_requests() {
    let scratch = Scratch::new();
    let out = scratch.out("plans");
    for (options, named) in [
        ("--sizes 101", &["size", "multiple of 32", "101"][..]),
        ("--shares 0", &["shares", "above 0"]),
        ("--plans exact", &["plans", "expected cached"]),
        ("--plans often", &["step plan", "cached:R", "often"]),
        ("--steps 0", &["steps", "1 or more"]),
        ("--exact-steps 37", &["exact steps", "1 to 36"]),
        ("--dtypes f8", &["f8"]),
        ("--preset huge", &["preset", "huge"]),
    ] {
        let args = ["plans", "-o", out.to_str().unwrap()];
        lab(args.into_iter().chain(options.split(' '))).refused(options, named);
    }
    scratch.assert_nothing_written("refused");
}
