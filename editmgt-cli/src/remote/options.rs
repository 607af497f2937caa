//! Options of a request as the texts that a server reads.

use std::collections::BTreeMap;

use editmgt::{EditRequest, KeywordPolicy, Task};
use serde_json::Value;

use super::RemoteError;

/// The options that a request sets.
///
/// # Errors
/// [`RemoteError::Option`] for one that no text expresses.
pub(super) fn texts(request: &EditRequest) -> Result<BTreeMap<String, String>, RemoteError> {
    let refused = |option: &str, why: &str| RemoteError::Option {
        option: option.to_owned(),
        why: why.to_owned(),
    };
    if let Task::Outpaint(_) = request.task {
        return Err(refused("outpaint", "a server does not run it"));
    }
    // Through text, so that a number of 32 bits has as few digits as it needs.
    let json = |request: &EditRequest| -> Value {
        let json = serde_json::to_string(request).unwrap_or_default();
        serde_json::from_str(&json).unwrap_or_default()
    };
    let (json, defaults) = (json(request), json(&EditRequest::new(&request.instruction)));
    let mut texts = BTreeMap::new();
    for option in EditRequest::options() {
        let text = match (option.name, &request.hold, &request.keyword, &request.steps_plan) {
            ("hold", Some(hold), ..) => hold.to_string(),
            ("keyword", _, Some(keyword), _) => keyword_text(keyword)?,
            ("steps_plan", .., Some(plan)) => plan.to_string(),
            (name, ..) => match json.get(name) {
                Some(value) if !value.is_null() && defaults.get(name) != Some(value) => text(value),
                _ => continue,
            },
        };
        texts.insert(option.name.to_owned(), text);
    }
    // What the server will read.
    let mut read = EditRequest::new(&request.instruction);
    for (name, text) in &texts {
        if read.set(name, text).is_err() {
            return Err(refused(name, "its value can't be sent to a server"));
        }
    }
    read.mask.clone_from(&request.mask);
    if read == *request {
        Ok(texts)
    } else {
        Err(refused("options", "some can't be sent to a server"))
    }
}

fn keyword_text(keyword: &KeywordPolicy) -> Result<String, RemoteError> {
    match keyword {
        KeywordPolicy::Auto => Ok("auto".to_owned()),
        KeywordPolicy::All => Ok("all".to_owned()),
        KeywordPolicy::Phrases(phrases) if phrases.iter().any(|phrase| phrase.contains(',')) => {
            let why = "a phrase with a comma can't be sent to a server".to_owned();
            Err(RemoteError::Option { option: "keyword".to_owned(), why })
        }
        KeywordPolicy::Phrases(phrases) => Ok(phrases.join(",")),
        _ => {
            let why = "this policy can't be sent to a server".to_owned();
            Err(RemoteError::Option { option: "keyword".to_owned(), why })
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(","),
        other => {
            let text = other.to_string();
            text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
        }
    }
}

#[cfg(test)]
mod tests {
    use editmgt::photo::Margins;
    use editmgt::{HoldPolicy, Holding};

    use super::*;

    #[test]
    fn every_option_travels_as_its_text() {
        assert!(texts(&EditRequest::new("x")).unwrap().is_empty());
        let mut request = EditRequest::new("make it red");
        for (name, text) in [
            ("hold", "mask+budget:0.2"),
            ("hold_margin", "2"),
            ("keyword", "red circle,it"),
            ("steps", "12"),
            ("steps_plan", "cached:4"),
            ("seed", "18446744073709551615"),
            ("variation", "3"),
            ("guidance_scale", "1.1"),
            ("guidance_interval", "0.2,0.7"),
            ("temperature", "2,0"),
            ("reference_strength", "0.05"),
            ("negative_prompt", ""),
            ("blocks", "1,3"),
            ("holding", "parity"),
            ("score_map", "true"),
            ("composite", "held"),
            ("feather", "4"),
            ("resize", "pad"),
            ("task", "inpaint"),
            ("anyway", "true"),
        ] {
            request.set(name, text).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let sent = texts(&request).unwrap();
        assert_eq!(sent["guidance_scale"], "1.1");
        let mut read = EditRequest::new("make it red");
        sent.iter().for_each(|(name, text)| read.set(name, text).unwrap());
        assert_eq!(read, request);
        assert_eq!(read.holding, Holding::Parity);
    }

    #[test]
    fn what_has_no_text_is_refused_by_name() {
        let comma = EditRequest::new("x").keyword(KeywordPolicy::phrase("a, b"));
        assert!(texts(&comma).unwrap_err().to_string().starts_with("keyword: "));
        let mut outpaint = EditRequest::new("x").hold(HoldPolicy::Auto);
        outpaint.task = Task::Outpaint(Margins { left: 8, ..Margins::default() });
        assert!(texts(&outpaint).unwrap_err().to_string().starts_with("outpaint: "));
    }
}
