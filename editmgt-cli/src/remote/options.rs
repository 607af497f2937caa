//! Options of a request as the texts that a server reads.

use std::collections::BTreeMap;

use editmgt::{EditRequest, KeywordPolicy, Task};

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
    if let Some(KeywordPolicy::Phrases(phrases)) = &request.keyword
        && phrases.iter().any(|phrase| phrase.contains(','))
    {
        return Err(refused("keyword", "a phrase with a comma can't be sent to a server"));
    }
    let texts = request.texts().into_iter().map(|(name, text)| (name.to_owned(), text));
    let texts: BTreeMap<_, _> = texts.collect();
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
            ("keyword", "red car,it"),
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
