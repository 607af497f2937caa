use editmgt_core::{CellScores, ChaChaNoise, GridSize, NoiseRequest, NoiseSource, ScoreMap};

use super::*;

const SIDE: usize = 32;

/// Uniforms in [0, 1), one a token.
fn uniforms(seed: u64) -> Vec<f32> {
    let size = GridSize::new(SIDE, SIDE);
    let request = NoiseRequest { first_image: 0, batch: 1, size, step: 0 };
    ChaChaNoise::new(seed).step_noise(&request).unwrap().confidence
}

/// A disk of `share` of the image, as bright as `object`, on a background; noise on both.
fn disk(share: f32, object: f32, noise: f32) -> (Vec<f32>, Vec<bool>) {
    let radius = share / std::f32::consts::PI * (SIDE * SIDE) as f32;
    let uniforms = uniforms(7);
    let meant: Vec<bool> = (0..SIDE * SIDE)
        .map(|i| {
            let (y, x) = ((i / SIDE) as f32 - 15.5, (i % SIDE) as f32 - 15.5);
            y * y + x * x <= radius
        })
        .collect();
    let score = |(&u, &meant): (&f32, &bool)| {
        let level = if meant { object } else { 0.08 };
        level * (1.0 + noise * (2.0 * u - 1.0))
    };
    (uniforms.iter().zip(&meant).map(score).collect(), meant)
}

#[test]
fn an_object_of_any_size_is_found() {
    for (share, object, noise) in [
        (0.01, 0.9, 0.1),
        (0.03, 0.8, 0.2),
        (0.1, 0.9, 0.1),
        (0.1, 0.6, 0.6),
        (0.1, 0.4, 0.3),
        (0.4, 0.9, 0.1),
        (0.4, 0.4, 0.3),
    ] {
        let (scores, meant) = disk(share, object, noise);
        let found = AutoThreshold::of(&scores).unwrap();
        let threshold = found.threshold().unwrap_or_else(|| panic!("{share}: {found:?}"));
        let right = scores.iter().zip(&meant).filter(|(s, m)| (**s >= threshold) == **m);
        let right = right.count() as f32 / scores.len() as f32;
        assert!(right > 0.97, "{share} {object} {noise}: {right}, {found:?}");
    }
}

#[test]
fn without_a_clear_answer_nothing_is_held() {
    let noise = uniforms(1);
    let sums = (2..14).map(uniforms).reduce(|a, b| a.iter().zip(b).map(|(a, b)| a + b).collect());
    let bell = sums.unwrap();
    let exponential: Vec<f32> = noise.iter().map(|u| -(1.0 - u).ln()).collect();
    let gradient: Vec<f32> = (0..SIDE * SIDE).map(|i| (i / SIDE) as f32 / 31.0).collect();
    let mut sink = vec![0.01; SIDE * SIDE];
    sink[77] = 1.0;
    let inverse: Vec<f32> = disk(0.2, 0.9, 0.2).0.iter().map(|score| 1.0 - score).collect();
    for (what, scores, expected) in [
        ("constant", vec![0.3; SIDE * SIDE], "Flat"),
        ("nothing", vec![], "Flat"),
        ("a handful", vec![0.0, 0.1, 0.9, 1.0], "Flat"),
        ("a box", noise, "Unseparated"),
        ("a bell", bell, "Unseparated"),
        ("a tail", exponential, "Unseparated"),
        ("a gradient", gradient, "Unseparated"),
        ("a small faint object", disk(0.01, 0.3, 0.6).0, "Unseparated"),
        ("a sink", sink, "Nowhere"),
        ("the background", inverse, "Everywhere"),
        ("most of the image", disk(0.7, 0.8, 0.3).0, "Everywhere"),
    ] {
        let found = AutoThreshold::of(&scores).unwrap();
        assert_eq!(found.threshold(), None, "{what}: {found:?}");
        assert!(format!("{found:?}").starts_with(expected), "{what}: {found:?}");
    }
}

#[test]
fn an_uneven_object_is_cut_between_the_two_kinds() {
    // The object scores 0.24 to 0.96, the ground 0.03 to 0.13: its weakest tokens are held.
    let found = AutoThreshold::of(&disk(0.4, 0.6, 0.6).0).unwrap();
    assert!((0.13..0.5).contains(&found.threshold().unwrap()), "{found:?}");
}

#[test]
fn the_scale_of_the_scores_does_not_matter() {
    let (scores, _) = disk(0.1, 0.7, 0.4);
    let held = |scores: Vec<f32>| {
        let map = ScoreMap::new(1, GridSize::new(SIDE, SIDE), scores).unwrap();
        HoldAuto.hold(&HoldRequest::first(&map, None)).unwrap()
    };
    let plain = held(scores.clone());
    assert!((0.85..0.95).contains(&plain.share()));
    assert_eq!(held(scores.iter().map(|score| score * 4.0 - 1.0).collect()), plain);
}

#[test]
fn images_of_a_batch_are_judged_alone() {
    let size = GridSize::new(SIDE, SIDE);
    let (object, _) = disk(0.1, 0.9, 0.1);
    let both = [object, vec![0.5; SIDE * SIDE]].concat();
    let map = ScoreMap::new(2, size, both).unwrap();
    let request = HoldRequest::first(&map, None);
    let held = HoldAuto.hold(&request).unwrap();
    assert!(held.held()[..SIDE * SIDE].contains(&true));
    assert!(!held.held()[SIDE * SIDE..].contains(&true));
    assert!(HoldAuto.threshold(&request, 0).is_some());
    assert_eq!(HoldAuto.threshold(&request, 1), None);
    assert_eq!(HoldAuto.threshold(&request, 2), None);
}

#[test]
fn the_first_step_decides_whether_anything_is_held() {
    let size = GridSize::new(SIDE, SIDE);
    let map = |(scores, _): (Vec<f32>, Vec<bool>)| ScoreMap::new(1, size, scores).unwrap();
    let (small, large) = (map(disk(0.1, 0.9, 0.1)), map(disk(0.3, 0.9, 0.1)));
    let nothing = map((vec![0.5; SIDE * SIDE], vec![]));
    let share = |first, scores| {
        let request = HoldRequest { scores, first, mask: None, step: 1, cells: None };
        let share = HoldAuto.hold(&request).unwrap().share();
        assert_eq!(HoldAuto.threshold(&request, 0).is_some(), share > 0.0);
        share
    };
    assert_eq!(share(&nothing, &small), 0.0);
    assert_eq!(share(&small, &nothing), 0.0);
    assert!((share(&small, &large) - 0.7).abs() < 0.02);
    let other = ScoreMap::new(1, GridSize::new(1, 1), vec![1.0]).unwrap();
    let request = HoldRequest { scores: &small, first: &other, mask: None, step: 1, cells: None };
    assert!(matches!(HoldAuto.hold(&request), Err(Error::Shape { .. })));
}

#[test]
fn a_token_is_held_with_its_cell_on_any_grid() {
    let cell = |at: usize| if at == 6 { 1.0 } else { 0.02 * (at % 3) as f32 };
    let cells = GridSize::new(4, 5);
    let map = ScoreMap::new(1, cells, (0..20).map(cell).collect()).unwrap();
    let cell_scores = CellScores { scores: &map, first: &map };
    for (height, width, rows, columns) in [
        (4, 5, 1..2, 1..2),
        (8, 10, 2..4, 2..4),
        // The last cells stand for one token only.
        (7, 9, 2..4, 2..4),
        // No whole number of tokens.
        (6, 11, 2..3, 3..5),
    ] {
        let size = GridSize::new(height, width);
        let flat = ScoreMap::new(1, size, vec![0.5; size.len()]).unwrap();
        let request = HoldRequest { cells: Some(cell_scores), ..HoldRequest::first(&flat, None) };
        let held = HoldAuto.hold(&request).unwrap();
        for (i, &held) in held.held().iter().enumerate() {
            let free = rows.contains(&(i / width)) && columns.contains(&(i % width));
            assert_eq!(held, !free, "{size}, token {i}");
        }
        assert_eq!(HoldAuto.threshold(&request, 0), Some(1.0));
    }
}

#[test]
fn grids_of_one_row_one_column_and_one_token_are_decided() {
    for (height, width) in [(1, 1), (1, 2), (2, 1), (1, 40), (40, 1), (0, 0), (0, 5), (1, 0)] {
        let size = GridSize::new(height, width);
        let n = size.len();
        let map = |score: &dyn Fn(usize) -> f32| {
            ScoreMap::new(1, size, (0..n).map(score).collect()).unwrap()
        };
        for level in [0.0, 0.5, 1.0, -3.0, f32::MAX, f32::MIN_POSITIVE] {
            let flat = map(&|_| level);
            let held = HoldAuto.hold(&HoldRequest::first(&flat, None)).unwrap();
            assert!(!held.held().contains(&true), "{size}, constant {level}");
        }
        let peak = map(&|token| if token < 4 { 1.0 } else { 0.0 });
        let request = HoldRequest::first(&peak, None);
        let held = HoldAuto.hold(&request).unwrap();
        // Fewer than 16 tokens have no histogram.
        let expected: Vec<bool> = (0..n).map(|token| n == 40 && token >= 4).collect();
        assert_eq!(held.held(), expected, "{size}");
        let margin = crate::HoldMargin::new(Box::new(HoldAuto), 2).hold(&request).unwrap();
        assert_eq!(
            margin.held().iter().filter(|&&held| held).count(),
            if n == 40 { 34 } else { 0 }
        );
        // One cell for all tokens, and many cells for one.
        for (cells, tokens) in [(&peak, &map(&|_| 0.5)), (&map(&|_| 0.5), &peak)] {
            let cells = CellScores { scores: cells, first: cells };
            let request = HoldRequest { cells: Some(cells), ..HoldRequest::first(tokens, None) };
            assert_eq!(HoldAuto.hold(&request).unwrap().size(), size);
        }
    }
    let many = ScoreMap::new(1, GridSize::new(5, 8), vec![0.5; 40]).unwrap();
    let one = ScoreMap::new(1, GridSize::new(1, 1), vec![0.5]).unwrap();
    for (tokens, scores) in [(&many, &one), (&one, &many)] {
        let cells = CellScores { scores, first: scores };
        let request = HoldRequest { cells: Some(cells), ..HoldRequest::first(tokens, None) };
        assert_eq!(HoldAuto.hold(&request).unwrap().share(), 0.0);
    }
}

#[test]
fn scores_that_are_none_are_refused() {
    let size = GridSize::new(1, 21);
    let good = ScoreMap::new(1, size, vec![0.1; 21]).unwrap();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let bad = ScoreMap::new(1, size, [vec![0.1; 20], vec![bad]].concat()).unwrap();
        let first = HoldRequest::first(&bad, None);
        assert!(matches!(HoldAuto.hold(&first), Err(Error::Value { .. })));
        assert_eq!(HoldAuto.threshold(&first, 0), None);
        // A later step reads its own map only where the first found a region.
        let later = HoldRequest { first: &good, step: 1, ..first };
        assert_eq!(HoldAuto.hold(&later).unwrap().share(), 0.0);
    }
    for bad in [f32::NAN, f32::INFINITY] {
        let scores = [vec![0.1; 20], vec![bad]].concat();
        assert!(matches!(AutoThreshold::of(&scores), Err(Error::Value { .. })));
    }
}
