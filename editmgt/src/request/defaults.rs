use std::io::ErrorKind;
use std::path::Path;

use editmgt_core::TransformerSpec;
use editmgt_core::config::{ConfigError, parse};
use editmgt_store::{StoreError, json};
use serde_json::{Map, Value};

use super::{EditDefaults, HoldPolicy, KeywordPolicy};
use crate::error::ModelError;

const COMPONENT: &str = "edit defaults";
/// The blocks that the official code documents for localisation.
const OFFICIAL_BLOCKS: std::ops::RangeInclusive<usize> = 28..=36;
/// How many blocks the official model has.
const OFFICIAL_BLOCK_COUNT: usize = 42;

/// The blocks whose attention locates an edit where neither request nor model names any: those that
/// the official code documents for its model, else all single blocks.
pub fn default_blocks(spec: &TransformerSpec) -> Vec<usize> {
    match spec.blocks() {
        OFFICIAL_BLOCK_COUNT => OFFICIAL_BLOCKS.collect(),
        blocks => (spec.double_blocks..blocks).collect(),
    }
}

impl EditDefaults {
    /// The file in a model's folder.
    pub const FILE: &str = "edit_defaults.json";
    /// The version of the format that is read and written.
    pub const VERSION: u64 = 1;

    /// Reads the text of the file.
    ///
    /// # Errors
    /// [`ConfigError`] for what is not JSON, another version, an unknown key, a value of the
    /// wrong type or out of range.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        // As other programs write it: with 7.0 for 7, and null for what is not given.
        let plain = serde_json::from_str::<Map<String, Value>>(text);
        let plain = plain.map(|object| Value::Object(json::plain(object)).to_string());
        let text = plain.as_deref().unwrap_or(text);
        let version = |value: Value| value.get("version").cloned().unwrap_or(Value::Null);
        let version = serde_json::from_str(text).map(version);
        let defaults: Self = parse(COMPONENT, text, &["version"])?;
        match version {
            Ok(version) if version == Self::VERSION => {}
            version => {
                let got = version.unwrap_or(Value::Null);
                let expected = Self::VERSION;
                return Err(ConfigError::unsupported(COMPONENT, "version", expected, got));
            }
        }
        defaults.check()?;
        Ok(defaults)
    }

    /// The text of the file.
    pub fn to_json(&self) -> String {
        let mut value = serde_json::json!({ "version": Self::VERSION });
        if let (Value::Object(file), Ok(Value::Object(options))) =
            (&mut value, serde_json::to_value(self))
        {
            file.extend(options);
        }
        format!("{value:#}\n")
    }

    /// Reads the file in a model's folder; no file is no defaults.
    ///
    /// # Errors
    /// [`ModelError::Io`], or [`ModelError::Config`] as [`from_json`](Self::from_json), naming the
    /// file.
    pub fn read(model: &Path) -> Result<Self, ModelError> {
        let path = model.join(Self::FILE);
        match editmgt_store::read_text(&path) {
            Ok(text) => {
                Self::from_json(&text).map_err(|source| ModelError::Config { path, cause: source })
            }
            Err(StoreError::Io { cause, .. }) if cause.kind() == ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Checks every option.
    ///
    /// # Errors
    /// [`ConfigError::Unsupported`] with the key, its range and what came.
    pub fn check(&self) -> Result<(), ConfigError> {
        let error = |key, expected: &str, got: &dyn ToString| {
            Err(ConfigError::unsupported(COMPONENT, key, expected, got.to_string()))
        };
        if let Some((key, expected, got)) = self.out_of_range() {
            return error(key, expected, &got);
        }
        if let Some((key, expected, got)) =
            self.generate.as_ref().and_then(|generate| generate.out_of_range())
        {
            return error(key, expected, &got);
        }
        if self.trained_for.as_ref().is_some_and(Vec::is_empty) {
            return error("trained_for", "at least one of edit, generate and inpaint", &"none");
        }
        if let Some(inpaint) = &self.inpaint {
            for (key, nested) in [
                ("inpaint.inpaint", inpaint.inpaint.is_some()),
                ("inpaint.generate", inpaint.generate.is_some()),
                ("inpaint.trained_for", inpaint.trained_for.is_some()),
            ] {
                if nested {
                    return error(key, "this key at the top of the file only", &"one in `inpaint`");
                }
            }
            if let Some(hold) = inpaint.hold.as_ref().filter(|hold| **hold != HoldPolicy::Mask) {
                return error("hold", "mask in `inpaint`", hold);
            }
            let unread = EditDefaults { hold: None, ..EditDefaults::clone(inpaint) };
            unread.check()?;
        }
        if let Some(hold) = self.hold.as_ref().filter(|hold| hold.needs_mask()) {
            return error("hold", "a policy that needs no mask", hold);
        }
        if let Some(KeywordPolicy::Phrases(phrases)) = &self.keyword {
            return error("keyword", "all or auto", &format!("{phrases:?}"));
        }
        Ok(())
    }

    /// Checks what only a model can tell: blocks that it does not have, pictures smaller than one
    /// of its cells (`multiple` pixels).
    pub(crate) fn check_for(&self, blocks: usize, multiple: usize) -> Result<(), ConfigError> {
        if let Some(inpaint) = &self.inpaint {
            inpaint.check_for(blocks, multiple)?;
        }
        let beyond = self.blocks.iter().flatten().find(|&&block| block >= blocks);
        if let Some(block) = beyond {
            let expected = format!("below the transformer's {blocks}");
            return Err(ConfigError::unsupported(COMPONENT, "blocks", expected, block));
        }
        if let Some(size) = self.size.filter(|&size| size < multiple) {
            let expected = format!("{multiple} pixels or more for this model");
            return Err(ConfigError::unsupported(COMPONENT, "size", expected, size));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{GenerateDefaults, Job};

    #[test]
    fn every_option_survives_the_file() {
        let all = EditDefaults {
            size: Some(128),
            hold: Some(HoldPolicy::Budget(0.5)),
            hold_margin: Some(1),
            blocks: Some(vec![2, 3]),
            trained_for: Some(vec![Job::Edit, Job::Inpaint]),
            inpaint: Some(Box::new(EditDefaults { steps: Some(3), ..EditDefaults::default() })),
            generate: Some(Box::new(GenerateDefaults {
                width: Some(64),
                ..GenerateDefaults::default()
            })),
            ..EditDefaults::official()
        };
        for defaults in [all, EditDefaults::official(), EditDefaults::default()] {
            assert_eq!(EditDefaults::from_json(&defaults.to_json()).unwrap(), defaults);
        }
        assert_eq!(EditDefaults::default().to_json(), "{\n  \"version\": 1\n}\n");
    }

    #[test]
    fn a_folder_without_the_file_has_no_defaults() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(EditDefaults::read(dir.path()).unwrap(), EditDefaults::default());
        let path = dir.path().join(EditDefaults::FILE);
        std::fs::write(&path, r#"{"version": 1, "steps": 9}"#).unwrap();
        assert_eq!(EditDefaults::read(dir.path()).unwrap().steps, Some(9));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(EditDefaults::read(dir.path()), Err(ModelError::Io { .. })));
    }

    #[test]
    fn files_of_other_programs_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(EditDefaults::FILE);
        let plain = r#"{"version": 1, "steps": 7, "hold_margin": 2, "blocks": [2, 3]}"#;
        let expected = EditDefaults::from_json(plain).unwrap();
        for text in [
            format!("\u{feff}{plain}\r\n"),
            plain.replace('7', "7.0").replace('2', "2.0").replace('1', "1.0"),
            plain.replace('}', r#", "size": null, "hold": null, "temperature": null}"#),
        ] {
            std::fs::write(&path, &text).unwrap();
            assert_eq!(EditDefaults::read(dir.path()).unwrap(), expected, "{text}");
        }
        for (text, named) in [
            (plain.replace('7', "7.5"), "steps: "),
            (plain.replace('7', "\"7\""), "steps: "),
            (plain.replace("[2, 3]", "[2, \"x\"]"), "blocks: "),
            (plain.replace("[2, 3]", "7"), "blocks: "),
            (plain.replace("1,", "null,"), "version: expected 1"),
        ] {
            std::fs::write(&path, &text).unwrap();
            let message = EditDefaults::read(dir.path()).unwrap_err().to_string();
            assert!(message.contains(named), "{text}: {message}");
        }
        let utf16: Vec<u8> = plain.encode_utf16().flat_map(u16::to_le_bytes).collect();
        std::fs::write(&path, utf16).unwrap();
        let message = EditDefaults::read(dir.path()).unwrap_err().to_string();
        assert!(message.contains("UTF-16") && message.contains(EditDefaults::FILE), "{message}");
    }

    #[test]
    fn what_is_wrong_is_named_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        for (json, named) in [
            ("{", "EOF"),
            ("[1]", "an array"),
            ("{}", "version: expected 1, got null"),
            (r#"{"version": 2}"#, "version: expected 1, got 2"),
            (r#"{"version": 1, "colour": "red"}"#, "colour"),
            (r#"{"version": 1, "seed": 3}"#, "seed"),
            (r#"{"version": 1, "steps": "many"}"#, "steps: invalid type"),
            (r#"{"version": 1, "steps": 0}"#, "steps: expected 1 to 4096, got 0"),
            (r#"{"version": 1, "guidance_scale": -1}"#, "guidance_scale: expected 0 to 100"),
            (r#"{"version": 1, "reference_strength": 101}"#, "reference_strength: expected 0"),
            (r#"{"version": 1, "temperature": [0, 200]}"#, "temperature: expected 0 to 100"),
            (r#"{"version": 1, "guidance_interval": [0.9, 0.1]}"#, "guidance_interval: expected"),
            (r#"{"version": 1, "size": 0}"#, "size: expected 1 to"),
            (r#"{"version": 1, "hold": {"threshold": 2}}"#, "budget:SHARE or mask+POLICY, got 2"),
            (r#"{"version": 1, "hold": "mask"}"#, "hold: expected a policy that needs no mask"),
            (r#"{"version": 1, "hold": "maybe"}"#, "unknown variant `maybe`"),
            (r#"{"version": 1, "map_filter": "median"}"#, "unknown variant `median`"),
            (r#"{"version": 1, "hold_margin": 65}"#, "hold_margin: expected 0 to 64 tokens"),
            (r#"{"version": 1, "trained_for": ["draw"]}"#, "unknown variant `draw`"),
            (r#"{"version": 1, "trained_for": []}"#, "at least one of edit, generate and inpaint"),
            (r#"{"version": 1, "generate": {"width": 7}}"#, "width: expected 8 to 16384"),
            (r#"{"version": 1, "generate": {"hold": "off"}}"#, "hold"),
            (r#"{"version": 1, "inpaint": {"steps": 0}}"#, "steps: expected 1 to 4096, got 0"),
            (r#"{"version": 1, "inpaint": {"hold": "auto"}}"#, "hold: expected mask"),
            (r#"{"version": 1, "inpaint": {"inpaint": {}}}"#, "inpaint.inpaint: expected"),
            (r#"{"version": 1, "keyword": {"phrases": ["owl"]}}"#, "keyword: expected all or auto"),
        ] {
            let path = dir.path().join(EditDefaults::FILE);
            std::fs::write(&path, json).unwrap();
            let message = EditDefaults::read(dir.path()).unwrap_err().to_string();
            assert!(message.contains(EditDefaults::FILE), "{json}: {message}");
            assert!(message.contains(named), "{json}: {message}");
        }
        let blocks = EditDefaults { blocks: Some(vec![2, 7]), ..EditDefaults::default() };
        assert!(blocks.check_for(8, 16).is_ok());
        let message = blocks.check_for(7, 16).unwrap_err().to_string();
        assert!(message.contains("blocks: expected below the transformer's 7, got 7"), "{message}");
        let size = EditDefaults { size: Some(15), ..EditDefaults::default() };
        assert!(size.check_for(7, 16).is_err());
    }
}
