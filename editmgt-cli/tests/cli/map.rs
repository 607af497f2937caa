//! The score map and the held tokens, drawn over the photo.

use crate::images::read;
use crate::program::{Edit, Scratch};

#[test]
fn the_map_shows_scores_even_where_nothing_is_held_by_them() {
    let scratch = Scratch::new();
    let map = scratch.out("map.png");
    for (hold, held) in [("off", false), ("0.5", true)] {
        let edit = |name| Edit::new(scratch.out(name)).quick().with("--hold").with(hold);
        let report = edit("o.png").with_path("--map", &map).report();
        assert!(report["scores"]["mean"].as_f64().unwrap() > 0.0, "{hold}");
        assert_eq!(report["tokens_held"].as_f64().unwrap() > 0.0, held, "{hold}");
        let picture = read(&map).0;
        assert_eq!(picture.dimensions(), (451, 300));
        let coloured = picture.pixels().filter(|p| p.0[0] != p.0[1]).count();
        assert!(coloured > 451 * 300 / 2, "{hold}: only {coloured} pixels have a colour");
        // The map does not change the result.
        let without = edit("p.png").with("--no-record").bytes();
        let with = edit("q.png").with("--no-record").with_path("--map", &map).bytes();
        assert!(without == with, "{hold}");
    }
}

#[test]
fn several_edits_have_maps_of_their_own_and_no_file_is_two_things() {
    let scratch = Scratch::new();
    let map = scratch.out("m.png");
    let edit = |name: &str| Edit::new(scratch.out(name)).quick().with_path("--map", &map);
    edit("o.png").with("--variations 2").run().done();
    assert!(scratch.out("m-0.png").exists() && scratch.out("m-1.png").exists());
    assert!(!map.exists());
    edit("m.png").run().refused("map", &["m.png", "a separate file for the map"]);
    let report = edit("o.png").with_path("--report", &map);
    report.run().refused("report", &["m.png", "a separate file for the map"]);
    let nowhere = scratch.path("nowhere/m.png");
    let edit = Edit::new(scratch.out("p.png")).with_path("--map", &nowhere);
    edit.run().refused("map", &["nowhere does not exist"]);
    assert!(!scratch.out("p.png").exists());
}
