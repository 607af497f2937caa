//! The page's structure; and, if a Chromium is installed, its filter.

use std::process::Command;

use editmgt_world::Category;
use editmgt_world::Metrics;
use image::{Rgb, RgbImage};

use super::*;
use crate::Panels;

fn records() -> Vec<Record> {
    let cases = [
        (Category::Add, 0.1, 20.0, "add a <big> \"fox\""),
        (Category::Remove, 0.9, 40.0, "remove the fox"),
        (Category::Add, 0.5, 10.0, "add an owl"),
    ];
    let record = |(index, (category, l1, psnr, instruction)): (u64, (_, f64, _, &str))| Record {
        index,
        name: None,
        category: Some(category),
        kind: None,
        instruction: instruction.into(),
        metrics: Metrics::default().with("l1", l1).with("psnr", psnr).with("success", 1.0 - l1),
        skipped: None,
    };
    (0..).zip(cases).map(record).collect()
}

fn page(cases: usize, by: &str) -> Result<String, EvalError> {
    let dir = tempfile::tempdir().unwrap();
    let picture = |level| RgbImage::from_pixel(16, 16, Rgb([level; 3]));
    let panels = Panels {
        before: picture(1),
        truth: Some(picture(2)),
        map: None,
        held: Some(picture(3)),
        after: picture(4),
    };
    panels.save(dir.path(), 1).unwrap();
    let options = ReportOptions { title: "a & b".into(), by: by.into(), cases, seed: 0 };
    report(dir.path(), &records(), &options)
}

/// Position of each part in the page, all in this order.
fn in_order(page: &str, parts: &[&str]) {
    let mut from = 0;
    for part in parts {
        let at = page[from..].find(part);
        from += at.unwrap_or_else(|| panic!("expected {part:?} after position {from}: {page}"));
    }
}

#[test]
fn a_page_has_the_table_the_plots_and_the_worst_edits() {
    let page = page(9, "l1").unwrap();
    in_order(
        &page,
        &[
            "<title>a &amp; b</title>",
            "<tr><th>add</th><td>2</td><td>0.700<small>",
            "<tr><th>all</th><td>3</td>",
            "<svg",
            "by category: success",
            "<option>add</option><option>remove</option>",
            "<option data-more=\"false\" selected>l1</option><option data-more=\"true\">psnr",
            "<h3>remove the fox</h3>",
            "<img alt=\"before\" src=\"data:image/png;base64,iVBOR",
            "<img alt=\"held\"",
            "<img alt=\"after\"",
            "<img alt=\"truth\"",
            "<h3>add an owl</h3>",
            "<h3>add a &lt;big&gt; &quot;fox&quot;</h3>",
            "</script>",
        ],
    );
    assert_eq!(page.matches("<article").count(), 3);
    assert_eq!(page.matches("<img").count(), 4);
    // It is self-contained.
    for outside in ["http-equiv", "<link", "src=\"http", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn gallery_has_the_requested_length_and_order() {
    let worst = page(1, "success").unwrap();
    assert_eq!(worst.matches("<article").count(), 1);
    in_order(&worst, &["The worst 1 of 3 edits by success", "<h3>remove the fox</h3>"]);
    let error = page(9, "colour").unwrap_err().to_string();
    assert!(error.contains("expected edits with the metric colour"), "{error}");
}

/// If this is set, a missing browser is a failure.
const NEED_BROWSER: &str = "EDITMGT_NEED_BROWSER";

/// Chooses a category and a metric as a reader would, once the page has loaded, and reads the
/// gallery.
const CLICKS: &str = "
<script>
  const choose = (id, value) => {
    const select = document.getElementById(id);
    select.value = value;
    select.dispatchEvent(new Event('change', { bubbles: true }));
  };
  const seen = () => {
    const shown = [...document.querySelectorAll('article')].filter((a) => a.offsetHeight > 0);
    return shown.map((a) => a.querySelector('h3').textContent.split(' ').pop());
  };
  const found = [seen()];
  choose('category', 'add'); found.push(seen());
  choose('category', ''); choose('metric', 'psnr'); found.push(seen());
  choose('category', 'remove'); found.push(seen());
  document.title = 'found ' + found.map((names) => names.join('+')).join(' / ') + ' end';
</script>
</body>";

#[test]
fn the_filter_filters_in_a_browser() {
    let names = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    let version = |name: &&&str| Command::new(name).arg("--version").output().is_ok();
    let Some(browser) = names.iter().find(version) else {
        assert!(std::env::var_os(NEED_BROWSER).is_none(), "expected one of {names:?}, got none");
        eprintln!("skipped: there is no Chromium to click in");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.html");
    std::fs::write(&path, page(9, "l1").unwrap().replace("</body>", CLICKS)).unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--no-first-run"])
        // It opens one file, and needs no network.
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg("--disable-quic")
        .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
        .arg(format!("file://{}", path.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout);
    let expected = "found fox+owl+\"fox\" / owl+\"fox\" / owl+\"fox\"+fox / fox end";
    assert!(dom.contains(&format!("<title>{expected}</title>")), "{dom}");
}
