//! `editmgt-lab cost`.

use crate::program::{GOLDEN_MODEL, Scratch, lab};

#[test]
fn a_plot_and_its_numbers_are_written() {
    let scratch = Scratch::new();
    let out = scratch.out("cost.of.edits");
    let lists = "--sizes 64,32 --steps 2,1 --batches 1,2 --layers 1,0 --repeat 2 --warmup 0";
    let args = ["cost", "-m", GOLDEN_MODEL, "-o", out.to_str().unwrap()];
    let table = lab(args.into_iter().chain(lists.split(' '))).done();
    let csv = std::fs::read_to_string(scratch.out("cost.of.edits.csv")).unwrap();
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0][..5], ["size", "steps", "batch", "layers", "median_seconds"]);
    let loads: Vec<_> = rows[1..].iter().map(|row| row[..4].join(" ")).collect();
    assert_eq!(loads, ["64 2 1 1", "32 2 1 1", "64 1 1 1", "64 2 2 1", "64 2 1 0"]);
    for row in &rows[1..] {
        assert_eq!(row.len(), rows[0].len(), "{csv}");
        let seconds = [4, 5, 6].map(|column| row[column].parse::<f64>().unwrap());
        assert!(seconds[1] <= seconds[0] && seconds[0] <= seconds[2], "{csv}");
    }
    assert_eq!(table.lines().count(), rows.len(), "{table}");
    let svg = std::fs::read_to_string(scratch.out("cost.of.edits.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("images per batch"), "{svg}");
}

#[test]
fn rejects_invalid_loads() {
    let scratch = Scratch::new();
    let out = scratch.out("cost");
    for (options, named) in [
        ("--sizes 101", &["101 pixels", "size", "multiple of"][..]),
        ("--steps 0", &["0 steps", "1 or more"]),
        ("--layers 999", &["999 layers", "layers: expected up to"]),
        ("--repeat 0", &["repeat", "1 or more"]),
        ("--threads 0", &["--threads", "1 or more"]),
        ("--dtype f8", &["f8"]),
        ("--device gpu", &["\"gpu\""]),
    ] {
        let args = ["cost", "-m", GOLDEN_MODEL, "-o", out.to_str().unwrap()];
        lab(args.into_iter().chain(options.split(' '))).refused(options, named);
    }
    let args = ["cost", "-m", GOLDEN_MODEL, "-o", "no/such/folder"];
    lab(args).refused("folder", &["no/such", "does not exist"]);
    scratch.assert_nothing_written("refused");
}
