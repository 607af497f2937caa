//! Links and file names in the documentation are valid.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The checkout; tests run in the folder of their package.
const ROOT: &str = "..";

#[test]
fn links_and_anchors_exist() {
    let mut broken = Vec::new();
    for page in pages() {
        for link in links(&prose(&read(&page))) {
            if let Some(problem) = problem(&page, &link) {
                broken.push(format!("{}: {link}: {problem}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_page_of_the_book_is_in_its_summary() {
    let docs = Path::new(ROOT).join("docs");
    let summary: HashSet<String> =
        links(&prose(&read(&docs.join("SUMMARY.md")))).into_iter().collect();
    let pages = markdown(&docs);
    let names = pages.iter().map(|page| page.strip_prefix(&docs).expect("found below docs"));
    let missing: Vec<_> = names
        .map(|name| name.to_string_lossy().replace('\\', "/"))
        .filter(|name| name != "SUMMARY.md" && !summary.contains(name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn source_files_named_in_reference_pages_exist() {
    let notes = Path::new(ROOT).join("docs/notes");
    let mut missing = Vec::new();
    for page in pages().into_iter().filter(|page| !page.starts_with(&notes)) {
        for name in inline_code(&read(&page)).iter().flat_map(|name| source_files(name)) {
            if !Path::new(ROOT).join(&name).exists() {
                missing.push(format!("{}: {name}", page.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Where a page says "`name` in `file.rs`", for functions (tests among them) and types.
#[test]
fn items_named_with_their_file_exist() {
    let mut missing = Vec::new();
    let mut found = 0;
    for page in pages() {
        let text = without_blocks(&read(&page));
        let parts: Vec<_> = text.split('`').collect();
        for named in parts.windows(3).skip(1).step_by(2).filter(|named| named[1] == " in ") {
            let (name, file) = (named[0], Path::new(ROOT).join(named[2]));
            if file.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            found += 1;
            let code = read(&file);
            let defines = |what| code.contains(&format!("{what} {name}"));
            if !["fn", "struct", "enum", "trait"].into_iter().any(defines) {
                missing.push(format!("{}: {name} in {}", page.display(), named[2]));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(found > 0, "docs/dtypes.md names the tests of what is computed in f32");
}

#[test]
fn checks_find_what_is_wrong() {
    let page = Path::new(ROOT).join("docs/performance.md");
    for (link, wrong) in [
        ("backends.md", false),
        ("backends.md#conformance", false),
        ("#memory", false),
        ("https://example.org/nowhere", false),
        ("nowhere.md", true),
        ("backends.md#nowhere", true),
    ] {
        assert_eq!(problem(&page, link).is_some(), wrong, "{link}");
    }
    assert_eq!(links("a [b](c.md), ![d](e.png)"), ["c.md", "e.png"]);
    assert_eq!(links(&prose("```text\n[a](b)\n```\n`[c](d)` [e](f)")), ["f"]);
    assert_eq!(anchor("What `x` does, and how"), "what-x-does-and-how");
    assert_eq!(
        source_files("editmgt-vq/src/{a,b}.rs"),
        ["editmgt-vq/src/a.rs", "editmgt-vq/src/b.rs"]
    );
    assert_eq!(source_files("tests/golden/*/"), ["tests/golden"]);
    assert!(source_files("runs/edit").is_empty() && source_files("editmgt edit a/b").is_empty());
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The pages of the checkout's root, of the book, and the embedded model's card.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    let of_root = fs::read_dir(root).expect("the checkout is readable");
    let of_root = of_root.map(|entry| entry.expect("the checkout is readable").path());
    let mut pages: Vec<_> = of_root.filter(|path| is_markdown(path)).collect();
    pages.extend(markdown(&root.join("docs")));
    pages.push(root.join("editmgt/embedded/README.md"));
    pages
}

fn is_markdown(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

/// The Markdown files below a folder.
fn markdown(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the documentation is readable");
    let paths = entries.map(|entry| entry.expect("the documentation is readable").path());
    paths
        .flat_map(|path| if path.is_dir() { markdown(&path) } else { vec![path] })
        .filter(|path| is_markdown(path))
        .collect()
}

/// A page without its code blocks.
fn without_blocks(page: &str) -> String {
    let mut in_block = false;
    let mut lines = Vec::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            lines.push(line);
        }
    }
    lines.join("\n")
}

/// A page without code blocks and inline code.
fn prose(page: &str) -> String {
    without_blocks(page).split('`').step_by(2).collect()
}

fn inline_code(page: &str) -> Vec<String> {
    without_blocks(page).split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The targets of links and images.
fn links(prose: &str) -> Vec<String> {
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

/// The problem of a link from a page, if any. Other sites are not contacted.
fn problem(page: &Path, link: &str) -> Option<&'static str> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
    let folder = page.parent().expect("a page is in a folder");
    let target = if file.is_empty() { page.to_owned() } else { folder.join(file) };
    if !target.exists() {
        return Some("no such file");
    }
    let checked = !fragment.is_empty() && is_markdown(&target);
    (checked && !anchors(&read(&target)).contains(fragment)).then_some("no such heading")
}

/// The anchors of a page's headings, and those that it sets itself.
fn anchors(page: &str) -> HashSet<String> {
    let text = without_blocks(page);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let set = text.split("<a id=\"").skip(1).filter_map(|rest| rest.split_once('"'));
    headings
        .map(|line| anchor(line.trim_start_matches('#').trim()))
        .chain(set.map(|(name, _)| name.to_owned()))
        .collect()
}

/// GitHub's anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The source files that inline code names, `{a,b}` expanded; of a pattern the folder.
fn source_files(code: &str) -> Vec<String> {
    let in_sources = ["tests/", "examples/", "scripts/", "configs/"];
    let first = code.split('/').next().unwrap_or_default();
    let is_crate = code.contains('/') && first.starts_with("editmgt");
    let is_path = code.chars().all(|c| c.is_ascii_alphanumeric() || "/._-{},*".contains(c));
    if !is_path || !(is_crate || in_sources.iter().any(|folder| code.starts_with(folder))) {
        return Vec::new();
    }
    let mut names = vec![code.to_owned()];
    while let Some(at) = names.iter().position(|name| name.contains('{')) {
        let name = names.remove(at);
        let (before, rest) = name.split_once('{').expect("it contains a brace");
        let (choices, after) = rest.split_once('}').unwrap_or((rest, ""));
        names.extend(choices.split(',').map(|choice| format!("{before}{choice}{after}")));
    }
    names.into_iter().map(|name| folder_of_pattern(&name)).collect()
}

fn folder_of_pattern(name: &str) -> String {
    match name.split_once('*') {
        Some((before, _)) => before.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned(),
        None => name.to_owned(),
    }
}
