//! Comments, messages and reference pages are in plain terms of the field.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

/// The checkout; tests run in the folder of their package.
const ROOT: &str = "..";

/// Phrases that obscure the meaning, with plain alternatives.
const PHRASES: [(&str, &str); 36] = [
    ("so many", "a count: `count` items, every n-th step"),
    ("nobody", "name the subject"),
    ("somebody", "name the subject"),
    ("anybody", "name the subject"),
    ("whoever", "name the subject"),
    ("who asks", "name the caller"),
    ("who doesn't", "name the caller"),
    ("who says", "name the caller"),
    ("can't be had", "is unavailable"),
    ("that is none", "invalid"),
    ("that are none", "invalid"),
    ("is none of", "is not one of"),
    ("are none of", "are not one of"),
    ("is no code", "is not a codebook index"),
    ("are no codes", "are not codebook indices"),
    ("to the bit", "bit for bit"),
    ("of one's own", "custom"),
    ("goes on", "continues, resumes"),
    ("going on", "continuing, resuming"),
    ("what is said", "options, input"),
    ("the user said", "options that are set"),
    ("says nothing", "leaves unset"),
    ("is told", "gets, is reported"),
    ("are told", "get, are reported"),
    ("told apart", "distinguished"),
    ("that it wants", "required"),
    ("how it wants to be used", "default options"),
    ("knows better", "overrides"),
    ("what became of", "result, outcome"),
    ("comes of it", "result, outcome"),
    ("whatever the system", "an I/O error"),
    ("made anew", "created again"),
    ("written anew", "rewritten"),
    ("as it lies", "in memory order"),
    ("by the look of", "by its contents"),
    ("never to nothing", "at least 1"),
];

#[test]
fn comments_messages_and_pages_are_plain() {
    let mut found = Vec::new();
    for path in files() {
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let is_source = path.extension().is_some_and(|extension| extension == "rs");
        for (i, line) in text.lines().enumerate() {
            let prose = if is_source { prose(line) } else { line.to_owned() };
            for (phrase, instead) in phrases_in(&prose) {
                let place = format!("{}:{}", path.display(), i + 1);
                found.push(format!("{place}: \"{phrase}\" (instead: {instead})"));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn phrases_are_found_in_comments_and_strings_only() {
    let found = |line| phrases_in(&prose(line)).count();
    assert_eq!(found("/// Runs so many steps."), 1);
    assert_eq!(found(r#"    Err("nobody is there".into()) // and nobody else"#), 2);
    assert_eq!(found("let nobody = so_many(1);"), 0);
    assert_eq!(found(r#"let url = "http://nobody";"#), 1);
    assert_eq!(found("/// Nobody: upper case, too."), 1);
    assert_eq!(found("/// Some busybody."), 0);
}

/// As code, which rustfmt keeps to that width; tables, diagrams and examples may be wider.
#[test]
fn comments_are_at_most_100_characters_wide() {
    let mut found = Vec::new();
    for path in files().into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs")) {
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut is_block = false;
        for (i, line) in text.lines().enumerate() {
            let Some(comment) = line.trim_start().strip_prefix("//") else {
                is_block = false;
                continue;
            };
            let comment = comment.trim_start_matches(['/', '!']).trim_start();
            is_block ^= comment.starts_with("```");
            if line.chars().count() > 100 && !is_block && !comment.starts_with('|') {
                found.push(format!("{}:{}", path.display(), i + 1));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// A message that includes its cause calls the field `cause`: `Error::source` takes a field
/// `source`, and a printed chain of errors would repeat it.
#[test]
fn error_chains_print_each_cause_once() {
    for path in files() {
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let name = path.display();
        let messages = text.split("#[error(").skip(1).filter_map(|rest| rest.split(")]").next());
        for message in messages {
            assert!(!message.contains("{source"), "{name}: a message includes `source`: {message}");
        }
    }
    // And of one chain, as a program prints it.
    let mut next: Option<&dyn std::error::Error> =
        Some(&editmgt::Photo::open("no-such-photo.png").expect_err("there is no such file"));
    let mut printed = String::new();
    while let Some(error) = next {
        printed.push_str(&error.to_string());
        next = error.source();
    }
    assert_eq!(printed.matches("os error 2").count(), 1, "{printed}");
}

/// The sources and manifests of all crates, configs, scripts and the reference pages, without
/// notes, results and this file.
fn files() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    let mut files = Vec::new();
    collect(root, "rs", &mut files);
    for (folder, extension) in [("docs", "md"), ("scripts", "py"), ("scripts", "sh")] {
        collect(&root.join(folder), extension, &mut files);
    }
    collect(root, "toml", &mut files);
    files.push(root.join("README.md"));
    let this = Path::new(file!()).file_name().expect("a source file has a name");
    files.retain(|path| path.file_name() != Some(this));
    assert!(files.len() > 300, "expected all sources below {ROOT}, got {}", files.len());
    files
}

fn collect(folder: &Path, extension: &str, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the checkout is readable") {
        let path = entry.expect("the checkout is readable").path();
        let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
        if path.is_dir() {
            let is_other =
                name.starts_with('.') || ["target", "notes", "results"].contains(&&*name);
            if !is_other {
                collect(&path, extension, files);
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
}

/// The comments and string literals of a line of code, as far as a line shows them.
fn prose(line: &str) -> String {
    let trimmed = line.trim_start();
    if trimmed.starts_with("//") {
        return trimmed.to_owned();
    }
    let parts: Vec<_> = line.split('"').collect();
    let mut prose = String::new();
    for (i, part) in parts.iter().enumerate() {
        if i % 2 == 1 {
            prose.push_str(part);
            prose.push('\n');
        } else if let Some((_, comment)) = part.split_once("//") {
            prose.push_str(comment);
            prose.push('\n');
        }
    }
    prose
}

/// The phrases in a text, as whole words in any letter case, each occurrence once.
fn phrases_in(text: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let text = text.to_lowercase();
    PHRASES.into_iter().flat_map(move |(phrase, instead)| {
        let is_word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        let bytes = text.as_bytes();
        let count = text
            .match_indices(phrase)
            .filter(|(at, _)| !is_word(at.checked_sub(1).and_then(|before| bytes.get(before))))
            .filter(|(at, _)| !is_word(bytes.get(at + phrase.len())))
            .count();
        std::iter::repeat_n((phrase, instead), count)
    })
}
