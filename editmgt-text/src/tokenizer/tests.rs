use std::fs;

use editmgt_core::Error;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

/// The files of a tokeniser folder, to be damaged and written.
struct Folder(Vec<(&'static str, String)>);

impl Folder {
    fn set(mut self, name: &'static str, text: impl ToString) -> Self {
        self.0.retain(|(other, _)| *other != name);
        self.0.push((name, text.to_string()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.0.retain(|(other, _)| *other != name);
        self
    }

    fn open(
        self,
        load: impl Fn(&Path) -> Result<PromptTokenizer, TokenizerError>,
    ) -> Result<PromptTokenizer, TokenizerError> {
        let dir = TempDir::new().unwrap();
        for (name, text) in self.0 {
            fs::write(dir.path().join(name), text).unwrap();
        }
        load(dir.path())
    }
}

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// Ids in the order of the list.
fn vocabulary(tokens: impl IntoIterator<Item = String>) -> Value {
    tokens.into_iter().enumerate().map(|(id, token)| (token, json!(id))).collect()
}

/// `!` (the padding), letters, letters that end a word, a few merges, start, end.
fn clip_vocabulary() -> Value {
    let letters = ('a'..='z').chain(",.'42".chars());
    let ends = letters.clone().map(|c| format!("{c}</w>"));
    let merged = ["ow", "owl</w>", "re", "red</w>", START, END].map(str::to_owned);
    vocabulary(
        ["!".to_owned()].into_iter().chain(letters.map(String::from)).chain(ends).chain(merged),
    )
}

fn clip_config() -> Value {
    json!({
        "bos_token": START,
        "eos_token": {"content": END, "lstrip": false},
        "pad_token": "!",
        "unk_token": END,
        "model_max_length": 77,
    })
}

fn clip_slow() -> Folder {
    Folder(Vec::new())
        .set("vocab.json", clip_vocabulary())
        .set("merges.txt", "#version: 0.2\no w\now l</w>\nr e\nre d</w>\n")
        .set("tokenizer_config.json", clip_config())
}

fn clip_fast() -> Folder {
    let merges = json!(["o w", ["ow", "l</w>"], "r e", "re d</w>"]);
    let model = json!({"type": "BPE", "vocab": clip_vocabulary(), "merges": merges});
    Folder(Vec::new())
        .set("tokenizer.json", json!({"model": model}))
        .set("tokenizer_config.json", clip_config())
}

/// A comma can be part of the token before it.
fn gemma() -> Folder {
    let words = ["<pad>", "<eos>", "<bos>", "<unk>", "▁", "ow", "owl", "red", "re", "d,"];
    let letters = ('a'..='z').chain("OWL,!".chars()).map(String::from);
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let vocab = vocabulary(words.map(str::to_owned).into_iter().chain(letters).chain(bytes));
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "special": true, "normalized": false,
               "single_word": false, "lstrip": false, "rstrip": false})
    };
    let tokenizer = json!({
        "version": "1.0",
        "truncation": {"direction": "Left", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": null,
        "added_tokens": [special(0, "<pad>"), special(1, "<eos>"), special(2, "<bos>")],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "fuse_unk": true,
                  "continuing_subword_prefix": null, "end_of_word_suffix": null,
                  "byte_fallback": true, "vocab": vocab,
                  "merges": ["d ,", "o w", "ow l", "r e", "re d"]},
    });
    let config = json!({"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"});
    Folder(Vec::new()).set("tokenizer.json", tokenizer).set("tokenizer_config.json", config)
}

/// The sequence as text.
fn tokens(tokenizer: &PromptTokenizer, prompt: &str) -> Vec<String> {
    let ids = tokenizer.encode(&[prompt]).unwrap();
    ids.ids().iter().map(|&id| tokenizer.tokenizer.id_to_token(id).unwrap()).collect()
}

#[test]
fn clip_sequences_from_either_source() {
    let sources = [clip_slow(), clip_fast()]
        .map(|folder| folder.open(PromptTokenizer::clip).unwrap().with_length(8).unwrap());
    for (prompt, text) in [
        ("", &[][..]),
        ("a Red  OWL", &["a</w>", "red</w>", "owl</w>"]),
        ("owl's\t42.", &["owl</w>", "'", "s</w>", "4</w>", "2</w>", ".</w>"]),
        // Too long: the tail is cut and the end token stays.
        ("a b c d e f g h", &["a</w>", "b</w>", "c</w>", "d</w>", "e</w>", "f</w>"]),
        // The padding token is special wherever it stands, as for the official class.
        ("a!b", &["a</w>", "!", "b</w>"]),
        // So are start and end, in any case.
        ("<|ENDOFTEXT|>a", &[END, "a</w>"]),
        // Control characters vanish; ideographs stand apart (and are unknown here, byte by byte).
        ("r\u{200d}ed", &["red</w>"]),
        ("a東b", &["a</w>", END, END, END, "b</w>"]),
    ] {
        let mut expected = vec![START];
        expected.extend(text);
        expected.push(END);
        expected.resize(8, "!");
        for tokenizer in &sources {
            assert_eq!(tokens(tokenizer, prompt), expected, "{prompt:?}");
            assert_eq!(tokenizer.prompt_rows(prompt).unwrap(), 1..1 + text.len(), "{prompt:?}");
        }
    }
}

#[test]
fn names_the_text_that_does_not_fit() {
    let whole = clip_slow().open(PromptTokenizer::clip).unwrap();
    let prompt = "owl's a b c";
    assert_eq!(whole.truncation(prompt, "CLIP").unwrap(), None);
    assert_eq!(whole.truncation("", "CLIP").unwrap(), None);
    // Start, `owl`, `'`, `s`, end.
    let short = whole.clone().with_length(5).unwrap();
    let cut = short.truncation(prompt, "CLIP").unwrap().unwrap();
    assert_eq!((cut.encoder.as_str(), cut.tokens), ("CLIP", 5));
    assert_eq!((cut.characters.clone(), cut.text.as_str()), (5..11, "a b c"));
    let said = "CLIP reads 5 tokens; characters 5..11 are left out: \"a b c\"";
    assert_eq!(cut.to_string(), said);
    let exact = whole.with_length(8).unwrap();
    assert_eq!(exact.truncation(prompt, "CLIP").unwrap(), None);
}

#[test]
fn gemma_sequences_are_padded_on_the_left() {
    let tokenizer = gemma().open(PromptTokenizer::gemma).unwrap();
    assert_eq!(tokenizer.length(), GEMMA_LENGTH);
    let tokenizer = tokenizer.with_length(6).unwrap();
    for (prompt, text) in [
        ("", &[][..]),
        ("red owl", &["red", "▁", "owl"]),
        ("é", &["<0xC3>", "<0xA9>"]),
        ("a b c d", &["a", "▁", "b", "▁", "c"]),
    ] {
        let mut expected = vec!["<pad>"; 5 - text.len()];
        expected.push("<bos>");
        expected.extend(text);
        assert_eq!(tokens(&tokenizer, prompt), expected, "{prompt:?}");
        assert_eq!(tokenizer.prompt_rows(prompt).unwrap(), 6 - text.len()..6, "{prompt:?}");
    }
}

#[test]
fn the_config_decides_what_surrounds_the_text() {
    for (key, value, expected) in [
        ("padding_side", json!("right"), &["<bos>", "a", "▁", "b", "<pad>", "<pad>"][..]),
        ("add_bos_token", json!(false), &["<pad>", "<pad>", "<pad>", "a", "▁", "b"]),
        ("add_eos_token", json!(true), &["<pad>", "<bos>", "a", "▁", "b", "<eos>"]),
    ] {
        let mut config = json!({"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"});
        config[key] = value;
        let folder = gemma().set("tokenizer_config.json", config);
        let tokenizer = folder.open(PromptTokenizer::gemma).unwrap().with_length(6).unwrap();
        assert_eq!(tokens(&tokenizer, "a b"), expected, "{key}");
    }
    let mut config = clip_config();
    config["truncation_side"] = json!("left");
    let folder = clip_slow().set("tokenizer_config.json", config);
    let tokenizer = folder.open(PromptTokenizer::clip).unwrap().with_length(4).unwrap();
    assert_eq!(tokens(&tokenizer, "a b c"), [START, "b</w>", "c</w>", END]);
}

#[test]
fn a_phrase_covers_every_token_that_has_a_share_in_it() {
    let clip = clip_slow().open(PromptTokenizer::clip).unwrap().with_length(10).unwrap();
    let gemma = gemma().open(PromptTokenizer::gemma).unwrap().with_length(16).unwrap();
    for (tokenizer, prompt, phrase, expected) in [
        // start, red, owl, sat, …: "sat" has three tokens.
        (&clip, "red owl sat", "Owl", &[(2, 3)][..]),
        (&clip, "red owl sat", "owl  SAT", &[(2, 6)]),
        (&clip, "owl, red owl", "owl", &[(1, 2), (4, 5)]),
        (&clip, "a!owl", "owl", &[(3, 4)]),
        // Only half of the last word fits.
        (&clip, "a a a a a a abcd", "abcd", &[(7, 9)]),
        (&clip, "é red", "red", &[(3, 4)]),
        (&gemma, "an owl", "owl", &[(15, 16)]),
        // re, d-with-its-comma, …
        (&gemma, "red, owl", "red", &[(12, 14)]),
        (&gemma, "é owl", "é", &[(12, 14)]),
    ] {
        let spans = tokenizer.spans(prompt, phrase).unwrap();
        let spans: Vec<_> = spans.into_iter().map(|span| (span.start, span.end)).collect();
        assert_eq!(spans, expected, "{phrase:?} in {:?}", tokens(tokenizer, prompt));
    }
    for (prompt, phrase) in
        [("red owl", "fox"), ("red owl", ""), ("redowl", "owl"), ("a a a a a a a a owl", "owl")]
    {
        let error = clip.spans(prompt, phrase).unwrap_err();
        assert!(matches!(error, Error::PhraseNotFound { .. }), "{phrase:?} in {prompt:?}");
    }
}

#[test]
fn official_keywords_ignore_word_ends() {
    let tokenizer = clip_slow().open(PromptTokenizer::clip).unwrap();
    for (prompt, keyword, expected) in [
        ("red owl", "OWL", &[2][..]),
        ("red owl, red owl", "red owl", &[1, 2]),
        ("red !owl", "red owl", &[1, 3]),
        ("cat", "a", &[2]),
        ("red owl", "fox", &[]),
        ("red owl", "!", &[]),
        ("", "owl", &[]),
    ] {
        let rows = clip_keyword_rows(&tokenizer, prompt, keyword).unwrap();
        assert_eq!(rows, expected, "{keyword:?} in {prompt:?}");
    }
}

#[test]
fn an_empty_batch_is_an_error() {
    let tokenizer = clip_slow().open(PromptTokenizer::clip).unwrap();
    assert!(matches!(tokenizer.encode(&[]), Err(Error::Shape { .. })));
    let error = tokenizer.with_length(2).unwrap_err();
    assert!(matches!(error, TokenizerError::Length { got: 2, special: 2 }));
}

#[test]
fn special_tokens_that_are_missing_are_named() {
    let clip: fn(&Path) -> _ = PromptTokenizer::clip;
    let gemma_: fn(&Path) -> _ = PromptTokenizer::gemma;
    for (make, load, roles) in [
        (clip_slow as fn() -> Folder, clip, &["bos_token", "eos_token", "pad_token"][..]),
        (clip_fast, clip, &["bos_token", "eos_token", "pad_token"]),
        (gemma, gemma_, &["bos_token", "pad_token"]),
    ] {
        for &expected in roles {
            let config = |value: Value| {
                let folder = make();
                let text = &folder.0.iter().find(|(name, _)| name.contains("config")).unwrap().1;
                let mut config: Value = serde_json::from_str(text).unwrap();
                config[expected] = value;
                folder.set("tokenizer_config.json", config)
            };
            for (value, expected_token) in [(Value::Null, None), (json!("<x>"), Some("<x>"))] {
                match config(value).open(load) {
                    Err(TokenizerError::MissingToken { path, role, token }) => {
                        assert_eq!((role, token.as_deref()), (expected, expected_token));
                        let named = path.file_name().unwrap().to_str().unwrap();
                        let vocabulary = ["vocab.json", "tokenizer.json"].contains(&named);
                        assert_eq!(vocabulary, expected_token.is_some(), "{named}");
                    }
                    other => panic!("{expected}: {other:?}"),
                }
            }
        }
    }
    // Older folders name them elsewhere.
    let older = clip_slow().without("tokenizer_config.json");
    assert!(older.set("special_tokens_map.json", clip_config()).open(clip).is_ok());
}

#[test]
fn damaged_files_are_named() {
    let clip: fn(&Path) -> _ = PromptTokenizer::clip;
    let gemma_: fn(&Path) -> _ = PromptTokenizer::gemma;
    // Both tokens are there, but not together: the library would run over a buffer.
    let merge_too_far = format!("{START} {END}");
    let model =
        |kind: &str, merges: Value| json!({"type": kind, "vocab": {"a": 0}, "merges": merges});
    // The library panics on a decoder or a normalizer of a shape that it does not know.
    let odd = |part: &str| {
        let folder = gemma();
        let text = &folder.0.iter().find(|(name, _)| name.starts_with("tokenizer.json")).unwrap().1;
        let mut tokenizer: Value = serde_json::from_str(text).unwrap();
        tokenizer[part] = json!({"type": 7});
        folder.set("tokenizer.json", tokenizer)
    };
    for (folder, load, file) in [
        (odd("decoder"), gemma_, "tokenizer.json"),
        (odd("normalizer"), gemma_, "tokenizer.json"),
        (clip_slow().set("vocab.json", "{\"a\": 0"), clip, "vocab.json"),
        (clip_slow().set("vocab.json", "[1, 2]"), clip, "vocab.json"),
        (clip_slow().set("vocab.json", "{\"a\": -1}"), clip, "vocab.json"),
        (clip_slow().set("merges.txt", "o w l"), clip, "merges.txt"),
        (clip_slow().set("merges.txt", "o"), clip, "merges.txt"),
        (clip_slow().set("merges.txt", "z q"), clip, "merges.txt"),
        (clip_slow().set("merges.txt", merge_too_far), clip, "merges.txt"),
        (clip_slow().set("tokenizer_config.json", "{"), clip, "tokenizer_config.json"),
        (
            clip_slow().set("tokenizer_config.json", json!({"padding_side": "top"})),
            clip,
            "tokenizer_config.json",
        ),
        (clip_fast().set("tokenizer.json", "{}"), clip, "tokenizer.json"),
        (
            clip_fast().set("tokenizer.json", json!({"model": model("WordPiece", json!([]))})),
            clip,
            "tokenizer.json",
        ),
        (
            clip_fast().set("tokenizer.json", json!({"model": model("BPE", json!(["a b c"]))})),
            clip,
            "tokenizer.json",
        ),
        (gemma().set("tokenizer.json", "nonsense"), gemma_, "tokenizer.json"),
        (
            gemma().set("tokenizer.json", json!({"model": model("BPE", json!(["a a"]))})),
            gemma_,
            "tokenizer.json",
        ),
    ] {
        match folder.open(load) {
            Err(TokenizerError::Malformed { path, message }) => {
                assert!(path.ends_with(file), "{}: {message}", path.display());
            }
            other => panic!("{file}: {other:?}"),
        }
    }
    for (folder, load) in [
        (clip_slow().without("vocab.json"), clip),
        (clip_slow().without("merges.txt"), clip),
        (gemma().without("tokenizer.json"), gemma_),
    ] {
        assert!(matches!(folder.open(load), Err(TokenizerError::NoVocabulary { .. })));
    }
}

#[test]
fn an_added_token_must_have_its_own_id() {
    let token = json!({"content": "owl</w>", "special": false, "normalized": false,
                       "single_word": false, "lstrip": false, "rstrip": false});
    let mut config = clip_config();
    config["added_tokens_decoder"] = json!({"5": token});
    let folder = clip_slow().set("tokenizer_config.json", config);
    let error = folder.open(PromptTokenizer::clip).unwrap_err();
    assert!(matches!(error, TokenizerError::Malformed { .. }), "{error}");
}
