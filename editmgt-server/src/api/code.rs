//! An edit as a command and as a program.

use std::fmt::Write;

use editmgt::photo::Margins;
use editmgt::{EditRequest, Holding, KeywordPolicy, Task};
use serde::Serialize;
use utoipa::ToSchema;

use crate::edit::Edit;
use crate::models::Models;

/// The same edit on the command line and as a program.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Code {
    command: String,
    rust: String,
}

/// Options of the table and their flags in `editmgt edit`.
const FLAGS: [(&str, &str); 22] = [
    ("hold", "hold"),
    ("hold_margin", "hold-margin"),
    ("composite", "composite"),
    ("feather", "feather"),
    ("blend", "blend"),
    ("keyword_maps", "keyword-maps"),
    ("map_filter", "map-filter"),
    ("blocks", "blocks"),
    ("steps", "steps"),
    ("steps_plan", "steps-plan"),
    ("guidance_reuse", "guidance-reuse"),
    ("cache_dtype", "cache-dtype"),
    ("seed", "seed"),
    ("variation", "variation"),
    ("guidance_scale", "guidance"),
    ("reference_strength", "strength"),
    ("temperature", "temperature"),
    ("masking_schedule", "masking"),
    ("negative_prompt", "negative"),
    ("size", "size"),
    ("resize", "resize"),
    ("tile", "tile"),
];

/// One edit of a chain.
struct Link<'a> {
    instruction: &'a str,
    options: Vec<(&'a str, &'a str)>,
    request: &'a EditRequest,
    has_mask: bool,
    /// The argument of `--model`; `None` for the embedded model.
    model: Option<&'a str>,
}

/// The code of an edit and of those whose results it edits.
pub(super) fn of(edit: &Edit, models: &Models) -> Code {
    let mut chain = vec![edit];
    while let Some(base) = chain.last().and_then(|edit| edit.base.as_deref()) {
        chain.push(base);
    }
    let links: Vec<_> = chain.iter().rev().map(|edit| link_of(edit, models)).collect();
    code(&edit.photo.name, &links)
}

fn link_of<'a>(edit: &'a Edit, models: &'a Models) -> Link<'a> {
    Link {
        instruction: &edit.request.instruction,
        options: edit.options.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect(),
        request: &edit.request,
        has_mask: edit.mask.is_some(),
        model: models.argument(edit.model),
    }
}

fn code(photo: &str, links: &[Link<'_>]) -> Code {
    let stem = photo.rsplit_once('.').map_or(photo, |(stem, _)| stem);
    let mut from = photo.to_owned();
    let mut commands = Vec::new();
    let mut rust = String::from("use editmgt::{EditRequest, Editor, Mask, Photo};\n\n");
    if !links.iter().any(|link| link.has_mask) {
        rust = rust.replace(", Mask", "");
    }
    rust.push_str("fn main() -> Result<(), Box<dyn std::error::Error>> {\n");
    let _infallible = writeln!(rust, "    let photo = Photo::open({photo:?})?;");
    let mut opened = None;
    for (i, link) in links.iter().enumerate() {
        let number = if i == 0 { String::new() } else { format!("-{}", i + 1) };
        let to = format!("{stem}-edited{number}.png");
        let mask = format!("mask{number}.png");
        commands.push(command(&from, link, &to, &mask));
        if opened != Some(link.model) {
            let open = match link.model {
                Some(model) => format!("Editor::open({model:?})?"),
                None => "Editor::embedded().build()?".to_owned(),
            };
            let _infallible = writeln!(rust, "    let editor = {open};");
            opened = Some(link.model);
        }
        statement(&mut rust, link, &to, &mask);
        from = to;
    }
    rust.push_str("    Ok(())\n}\n");
    Code { command: commands.join("\n"), rust }
}

fn command(from: &str, link: &Link<'_>, to: &str, mask: &str) -> String {
    let subcommand = match link.request.task {
        Task::Edit => "edit",
        Task::Inpaint => "inpaint",
        Task::Outpaint(_) => "outpaint",
    };
    let mut words =
        vec!["editmgt".to_owned(), subcommand.to_owned(), file(from), link.instruction.to_owned()];
    words.extend(["-o".to_owned(), file(to)]);
    if let Some(model) = link.model {
        words.extend(["--model".to_owned(), file(model)]);
    }
    for (name, text) in &link.options {
        words.extend(flag(name, text, link.request, to));
    }
    if link.has_mask {
        words.extend(["--mask".to_owned(), mask.to_owned()]);
    }
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// A file name is no option.
fn file(name: &str) -> String {
    if name.starts_with('-') { format!("./{name}") } else { name.to_owned() }
}

/// The arguments for an option of the table.
fn flag(name: &str, text: &str, request: &EditRequest, to: &str) -> Vec<String> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    match name {
        "task" => match request.task {
            Task::Outpaint(Margins { left, top, right, bottom }) => {
                [("--left", left), ("--top", top), ("--right", right), ("--bottom", bottom)]
                    .into_iter()
                    .filter(|(_, side)| *side > 0)
                    .flat_map(|(flag, side)| [flag.to_owned(), side.to_string()])
                    .collect()
            }
            // The task is the command itself.
            Task::Edit | Task::Inpaint => Vec::new(),
        },
        "keyword" => match &request.keyword {
            Some(KeywordPolicy::Auto) => words(&["--auto-keyword"]),
            Some(KeywordPolicy::Phrases(phrases)) => {
                phrases.iter().flat_map(|phrase| ["--keyword".to_owned(), phrase.clone()]).collect()
            }
            _ => words(&["--no-keyword"]),
        },
        "guidance_interval" => match text.split_once(',') {
            Some((from, until)) => {
                words(&["--guidance-from", from.trim(), "--guidance-until", until.trim()])
            }
            None => Vec::new(),
        },
        "holding" => {
            words(&[if request.holding == Holding::Parity { "--parity" } else { "--strict" }])
        }
        "anyway" if request.anyway => words(&["--anyway"]),
        "score_map" if request.score_map => {
            vec!["--map".to_owned(), format!("{}-map.png", to.trim_end_matches(".png"))]
        }
        "temperature" => {
            let values = text.split(',').map(|value| value.trim().to_owned());
            std::iter::once("--temperature".to_owned()).chain(values).collect()
        }
        _ => match FLAGS.iter().find(|(option, _)| *option == name) {
            Some((_, flag)) => vec![format!("--{flag}"), text.to_owned()],
            None => Vec::new(),
        },
    }
}

/// A word for a POSIX shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,+=@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn statement(rust: &mut String, link: &Link<'_>, to: &str, mask: &str) {
    let mut lines = vec![format!("let mut request = EditRequest::new({:?});", link.instruction)];
    lines.extend(
        link.options.iter().map(|(name, text)| format!("request.set({name:?}, {text:?})?;")),
    );
    if link.has_mask {
        lines.push(format!("request = request.mask(Mask::open({mask:?})?);"));
    }
    if lines.len() == 1 {
        lines = vec![format!("let request = EditRequest::new({:?});", link.instruction)];
    }
    lines.push("let photo = editor.edit(&photo, &request)?.image;".to_owned());
    lines.push(format!("photo.save({to:?})?;"));
    for line in lines {
        // A text takes all that is written.
        let _infallible = writeln!(rust, "    {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link<'a>(request: &'a EditRequest, options: &[(&'a str, &'a str)]) -> Link<'a> {
        Link {
            instruction: &request.instruction,
            options: options.to_vec(),
            request,
            has_mask: false,
            model: None,
        }
    }

    #[test]
    fn texts_are_quoted_for_the_shell_and_for_rust() {
        let request = EditRequest::new("make it 'red' \"now\"\\");
        let code = code("-my cat.jpg", &[link(&request, &[("seed", "7")])]);
        assert_eq!(
            code.command,
            r#"editmgt edit './-my cat.jpg' 'make it '\''red'\'' "now"\' -o './-my cat-edited.png' --seed 7"#
        );
        assert!(
            code.rust.contains(r#"EditRequest::new("make it 'red' \"now\"\\")"#),
            "{}",
            code.rust
        );
        assert!(code.rust.contains(r#"request.set("seed", "7")?;"#), "{}", code.rust);
    }

    #[test]
    fn chains_have_one_line_for_each_edit() {
        let mut second = EditRequest::new("make it big");
        for (name, text) in
            [("keyword", "it,big"), ("guidance_interval", "0.2, 1"), ("temperature", "2,0")]
        {
            second.set(name, text).unwrap();
        }
        let first = EditRequest::new("make it red");
        let options =
            [("guidance_interval", "0.2, 1"), ("keyword", "it,big"), ("temperature", "2,0")];
        let links = [link(&first, &[]), link(&second, &options)];
        let links = links.map(|link| Link { model: Some("models/m"), ..link });
        let code = code("cat.jpg", &links);
        assert_eq!(code.rust.matches("Editor::open").count(), 1, "{}", code.rust);
        let lines: Vec<_> = code.command.lines().collect();
        assert_eq!(
            lines[0],
            "editmgt edit cat.jpg 'make it red' -o cat-edited.png --model models/m"
        );
        assert_eq!(
            lines[1],
            "editmgt edit cat-edited.png 'make it big' -o cat-edited-2.png --model models/m --guidance-from 0.2 \
             --guidance-until 1 --keyword it --keyword big --temperature 2 0"
        );
    }

    #[test]
    fn outpainting_is_its_own_command() {
        let mut request = EditRequest::new("a meadow");
        request.set("task", "outpaint:8,0,16,0").unwrap();
        let code = code("cat.jpg", &[link(&request, &[("task", "outpaint:8,0,16,0")])]);
        let expected = "editmgt outpaint cat.jpg 'a meadow' -o cat-edited.png --left 8 --right 16";
        assert_eq!(code.command, expected);
    }

    #[test]
    fn every_option_of_the_table_has_arguments() {
        let request = EditRequest::new("x").score_map(true).anyway(true);
        // The task is the command itself.
        for option in EditRequest::options().iter().filter(|option| option.name != "task") {
            let text = if option.name == "guidance_interval" { "0,1" } else { "1" };
            assert!(!flag(option.name, text, &request, "x.png").is_empty(), "{}", option.name);
        }
    }
}
