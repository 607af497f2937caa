use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The best score.
const BEST: f64 = 10.0;

/// A rater's answer for an edit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Its scores.
    Scores(Scores),
    /// Why the answer is unusable.
    Problem(String),
}

/// Two scores, 0..=10 each, higher is better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// How well the edit follows the instruction.
    pub followed: f64,
    /// How well the rest of the photo is preserved, and how natural the result looks.
    pub kept: f64,
}

impl Scores {
    /// The overall score: the geometric mean, as in GEdit-Bench, so that neither compensates for
    /// the other.
    pub fn overall(&self) -> f64 {
        (self.followed * self.kept).sqrt()
    }
}

impl Answer {
    /// Finds the last JSON object with both scores in a model's answer, which may also contain
    /// text, a code fence, or other braces. A score may be a string (`"7"`, `"7/10"`).
    pub fn parse(text: &str) -> Self {
        let objects: Vec<Map<String, Value>> = objects(text).collect();
        let has_both = |object: &&Map<String, Value>| {
            object.contains_key("followed") && object.contains_key("kept")
        };
        let Some(object) = objects.iter().rfind(has_both) else {
            return Self::Problem(format!(
                "expected a JSON object with followed and kept, got {:?}",
                start(text)
            ));
        };
        match (score(&object["followed"]), score(&object["kept"])) {
            (Some(followed), Some(kept)) => Self::Scores(Scores { followed, kept }),
            _ => {
                let (followed, kept) = (&object["followed"], &object["kept"]);
                Self::Problem(format!("expected scores from 0 to 10, got {followed} and {kept}"))
            }
        }
    }
}

/// Every JSON object that begins at a brace of the text, not nested in an earlier one.
fn objects(text: &str) -> impl Iterator<Item = Map<String, Value>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        while let Some(at) = text[from..].find('{') {
            let begin = from + at;
            let mut stream = serde_json::Deserializer::from_str(&text[begin..]).into_iter();
            match stream.next() {
                Some(Ok(object)) => {
                    from = begin + stream.byte_offset();
                    return Some(object);
                }
                _ => from = begin + 1,
            }
        }
        None
    })
}

fn score(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().trim_end_matches("/10").trim().parse().ok()?,
        _ => return None,
    };
    (0.0..=BEST).contains(&number).then_some(number)
}

/// The beginning of a text, for messages.
pub(super) fn start(text: &str) -> String {
    const LENGTH: usize = 200;
    text.trim().chars().take(LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_found_in_what_models_say() {
        for (text, followed, kept) in [
            (r#"{"followed": 8, "kept": 9.5}"#, 8.0, 9.5),
            ("```json\n{\"reason\": \"a {hat}\", \"followed\": 0, \"kept\": 10}\n```", 0.0, 10.0),
            ("Well { not this } but {\"followed\": \"7/10\", \"kept\": \" 6 \"}.", 7.0, 6.0),
            (
                r#"First {"followed": 1, "kept": 1}. No: {"kept": 3, "followed": 2, "x": {}} {"y": 1}"#,
                2.0,
                3.0,
            ),
        ] {
            let expected = Scores { followed, kept };
            assert_eq!(Answer::parse(text), Answer::Scores(expected), "{text}");
        }
        assert_eq!(Scores { followed: 4.0, kept: 9.0 }.overall(), 6.0);
    }

    #[test]
    fn invalid_answers_are_quoted() {
        for (text, expected) in [
            ("I can't rate pictures.", "got \"I can't rate pictures.\""),
            ("", "got \"\""),
            (r#"{"followed": 8"#, "expected a JSON object"),
            (r#"{"followed": 8}"#, "expected a JSON object"),
            (r#"{"followed": 11, "kept": 3}"#, "from 0 to 10, got 11 and 3"),
            (r#"{"followed": -1, "kept": 3}"#, "from 0 to 10"),
            (r#"{"followed": "good", "kept": 3}"#, "got \"good\" and 3"),
            (r#"{"followed": [8], "kept": null}"#, "got [8] and null"),
            (r#"{"followed": "nan", "kept": 1}"#, "from 0 to 10"),
        ] {
            let Answer::Problem(problem) = Answer::parse(text) else { panic!("{text}") };
            assert!(problem.contains(expected), "{text}: {problem}");
        }
        let Answer::Problem(long) = Answer::parse(&"é".repeat(5000)) else { panic!() };
        assert!(long.chars().count() < 300, "{long}");
    }
}
