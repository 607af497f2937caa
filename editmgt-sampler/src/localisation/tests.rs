use super::*;

const FILTERS: [Filter; 4] =
    [Filter::Adaptive, Filter::Gaussian, Filter::Bilateral, Filter::Morphology];

fn maps(layers: usize, items: usize, size: GridSize) -> AttentionMaps {
    let values = (0..layers * items * size.len()).map(|i| ((i * i + 3 * i) % 97) as f32 / 500.0);
    AttentionMaps::new((0..layers).collect(), items, size, values.collect()).unwrap()
}

fn with_filter(consolidator: Consolidator, filter: Filter) -> Consolidator {
    consolidator.with_smoothing(Some(Smoothing::new(filter, 1.0).unwrap()))
}

#[test]
fn a_batch_gives_the_scores_of_its_single_items() {
    for (height, width) in [(1, 1), (1, 9), (5, 3), (12, 20)] {
        let (size, target) = (GridSize::new(height, width), GridSize::new(2 * height, 2 * width));
        let both = maps(3, 2, size);
        for filter in FILTERS {
            let consolidator = with_filter(Consolidator::default(), filter);
            let together = consolidator.consolidate(&both, target).unwrap();
            for item in 0..2 {
                let layers = (0..3).flat_map(|layer| both.map(layer, item).to_vec()).collect();
                let single = AttentionMaps::new(vec![0, 1, 2], 1, size, layers).unwrap();
                let single = consolidator.consolidate(&single, target).unwrap();
                assert_eq!(together.image(item), single.values(), "{filter:?} on {size}");
            }
            assert!(together.values().iter().all(|v| v.is_finite()), "{filter:?} on {size}");
        }
    }
}

#[test]
fn transposing_commutes_with_filters() {
    // Transposing a map transposes its smooth version.
    let size = GridSize::new(7, 12);
    let flipped = GridSize::new(12, 7);
    let map = maps(1, 1, size);
    let transpose = |map: &[f32], size: GridSize| -> Vec<f32> {
        (0..size.len()).map(|i| map[i % size.height * size.width + i / size.height]).collect()
    };
    let other = AttentionMaps::new(vec![0], 1, flipped, transpose(map.map(0, 0), size)).unwrap();
    for filter in FILTERS {
        let consolidator = with_filter(Consolidator::default(), filter);
        let there = consolidator.consolidate(&map, size).unwrap();
        let back = consolidator.consolidate(&other, flipped).unwrap();
        let there = transpose(there.values(), size);
        let off = there.iter().zip(back.values()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // The gaussian rounds to f32 between its passes, whose order differs.
        assert!(off < 1e-6, "{filter:?}: {off}");
    }
}

#[test]
fn parity_guesses_the_grid() {
    let official = Consolidator::parity();
    // The guess is right for the two official squares, and wrong for anything else.
    for (height, width, same) in
        [(32, 32, true), (64, 64, true), (16, 64, false), (16, 16, false), (9, 1, true)]
    {
        let size = GridSize::new(height, width);
        let map = maps(1, 1, size);
        let real = Consolidator::default().consolidate(&map, size).unwrap();
        assert_eq!(official.consolidate(&map, size).unwrap() == real, same, "{size}");
    }
}

#[test]
fn a_constant_map_stays_constant() {
    let size = GridSize::new(4, 6);
    let map = AttentionMaps::new(vec![0], 1, size, vec![0.25; 24]).unwrap();
    for filter in FILTERS {
        let scores = with_filter(Consolidator::default(), filter).consolidate(&map, size).unwrap();
        assert!(scores.values().iter().all(|&v| v == 0.0), "{filter:?}");
    }
    let plain = Consolidator::default().with_smoothing(None).with_rescale(false);
    assert_eq!(plain.consolidate(&map, size).unwrap().values(), [0.25; 24]);
}

#[test]
fn rejects_empty_maps_and_nan() {
    let size = GridSize::new(2, 2);
    let empty = GridSize::new(0, 4);
    let no_layers = AttentionMaps::new(vec![], 1, size, vec![]).unwrap();
    let no_cells = AttentionMaps::new(vec![0], 1, empty, vec![]).unwrap();
    let nan = AttentionMaps::new(vec![0], 1, size, vec![0.0, 1.0, f32::NAN, 0.0]).unwrap();
    let consolidator = Consolidator::default();
    for (name, maps, target) in [
        ("no layers", &no_layers, size),
        ("no cells", &no_cells, size),
        ("no tokens", &maps(1, 1, size), empty),
        ("NaN", &nan, size),
    ] {
        assert!(consolidator.consolidate(maps, target).is_err(), "{name}");
    }
}
