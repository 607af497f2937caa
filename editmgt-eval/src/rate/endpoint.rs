use std::io::Read;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::answer::{Answer, start};
use crate::EvalError;

/// Bytes of an answer; a few sentences have several hundred.
const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// Tokens of an answer: the reason, and reasoning before it.
const MAX_ANSWER_TOKENS: u32 = 2048;

/// The rater's prompt. A change affects scores: it is part of a rating's identity.
pub(super) const TASK: &str = "\
You judge an edited photo. The first picture is the photo, the second is the photo after an edit by \
a program that was given the instruction below. Compare the two with care.

Give two scores, numbers from 0 to 10:
- followed: does the second picture show what the instruction asks for? 0: nothing of it, or \
something else. 5: half of it, or clumsily. 10: all of it.
- kept: is everything that the instruction does not mention as in the photo, and does the result \
look like a real, undamaged picture? 0: another scene, or ruined. 5: visible changes or flaws \
elsewhere. 10: none.
Judge each by itself: an untouched photo has followed 0 and kept 10.

Answer with one JSON object and nothing else:
{\"reason\": \"one sentence\", \"followed\": NUMBER, \"kept\": NUMBER}

Instruction: ";

/// An OpenAI-compatible chat service that accepts images. It does not implement `Debug`, which
/// would expose the key.
pub struct Endpoint {
    url: String,
    model: String,
    key: Option<String>,
    timeout: Duration,
}

impl Endpoint {
    /// The service at `url`, to which `/chat/completions` is appended (such as
    /// `http://localhost:8000/v1`), the `model` to request, the API `key`, and the time limit of an
    /// answer. `https` needs the feature `tls`.
    pub fn new(url: &str, model: &str, key: Option<String>, timeout: Duration) -> Self {
        let url = format!("{}/chat/completions", url.trim_end_matches('/'));
        Self { url, model: model.to_owned(), key, timeout }
    }

    /// What the scores depend on: neither the key nor the URL.
    pub(super) fn identity(&self) -> Value {
        json!({"model": self.model, "task": TASK})
    }

    /// Requests scores of an edit; `before` and `after` are PNGs.
    ///
    /// # Errors
    /// [`EvalError::Endpoint`] when it is unreachable or does not answer in time,
    /// [`EvalError::Status`] when it refuses.
    pub(super) fn rate(
        &self,
        instruction: &str,
        before: &[u8],
        after: &[u8],
    ) -> Result<Answer, EvalError> {
        let picture = |png: &[u8]| {
            let url = format!("data:image/png;base64,{}", STANDARD.encode(png));
            json!({"type": "image_url", "image_url": {"url": url}})
        };
        let text = json!({"type": "text", "text": format!("{TASK}{instruction}")});
        let content = json!([text, picture(before), picture(after)]);
        let mut request = json!({
            "model": self.model,
            "temperature": 0,
            "max_tokens": MAX_ANSWER_TOKENS,
            "messages": [{"role": "user", "content": content}],
        });
        let reply = self.post_adapting(&mut request)?;
        let reply: Value = match serde_json::from_str(&reply) {
            Ok(reply) => reply,
            Err(_) => return Ok(not_a_chat_reply(&reply)),
        };
        match reply.pointer("/choices/0/message/content").and_then(Value::as_str) {
            Some(text) => Ok(Answer::parse(text)),
            None => Ok(not_a_chat_reply(&reply.to_string())),
        }
    }

    /// Posts a request, and again without each parameter that the service refuses by name: newer
    /// models require `max_completion_tokens` and no temperature of 0.
    fn post_adapting(&self, request: &mut Value) -> Result<String, EvalError> {
        loop {
            match self.post(request) {
                Err(EvalError::Status { status: 400 | 422, reply, .. })
                    if drop_refused_parameter(request, &reply) => {}
                result => return result,
            }
        }
    }

    fn post(&self, request: &Value) -> Result<String, EvalError> {
        let failed = |e: minreq::Error| {
            let problem = match e {
                minreq::Error::HttpsFeatureNotEnabled => {
                    "this build has no TLS; use http, or build with --features tls".to_owned()
                }
                e => e.to_string(),
            };
            EvalError::Endpoint { url: self.url.clone(), problem }
        };
        let mut post = minreq::post(&self.url)
            .with_header("Content-Type", "application/json")
            .with_timeout(self.timeout.as_secs().max(1))
            // The key must not be sent to another host.
            .with_follow_redirects(false)
            .with_body(request.to_string());
        if let Some(key) = &self.key {
            post = post.with_header("Authorization", format!("Bearer {key}"));
        }
        let response = post.send_lazy().map_err(failed)?;
        let (status, mut text) = (response.status_code, Vec::new());
        let read = response.take(MAX_ANSWER_BYTES).read_to_end(&mut text);
        read.map_err(|e| failed(minreq::Error::IoError(e)))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        if !(200..300).contains(&status) {
            let reply = start(&text);
            return Err(EvalError::Status { url: self.url.clone(), status, reply });
        }
        Ok(text)
    }
}

/// Removes the parameter named in the refusal from the request, or renames a token limit once.
/// Returns whether something changed.
fn drop_refused_parameter(request: &mut Value, reply: &str) -> bool {
    let Some(request) = request.as_object_mut() else { return false };
    if reply.contains("temperature") && request.remove("temperature").is_some() {
        return true;
    }
    // The message names the alternative: "use 'max_completion_tokens' instead".
    if reply.contains("max_tokens") && request.remove("max_tokens").is_some() {
        request.insert("max_completion_tokens".to_owned(), json!(MAX_ANSWER_TOKENS));
        return true;
    }
    reply.contains("max_completion_tokens") && request.remove("max_completion_tokens").is_some()
}

fn not_a_chat_reply(reply: &str) -> Answer {
    let problem = format!("expected a chat's reply with a message, got {:?}", start(reply));
    Answer::Problem(problem)
}
