//! Values that no message may have.

/// Parts of names of variables whose values are secrets.
const SECRET: [&str; 5] = ["KEY", "SECRET", "TOKEN", "PASSWORD", "CREDENTIAL"];
/// A shorter value would take pieces of words out of messages.
const SHORTEST: usize = 4;
const HIDDEN: &str = "[hidden]";

/// The secrets of the environment.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// Those among these variables.
    pub(crate) fn of(variables: &[(String, String)]) -> Self {
        let is_secret = |name: &str| {
            let name = name.to_ascii_uppercase();
            SECRET.iter().any(|part| name.contains(part))
        };
        let secrets =
            variables.iter().filter(|(name, value)| is_secret(name) && value.len() >= SHORTEST);
        let mut secrets: Vec<_> = secrets.map(|(_, value)| value.clone()).collect();
        // A secret that contains another is hidden whole.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self(secrets)
    }

    /// A text in one line without the secrets.
    pub(crate) fn hide(&self, text: &str) -> String {
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        self.0.iter().fold(line, |line, secret| line.replace(secret, HIDDEN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secret_variables_are_hidden() {
        let variables = [
            ("AWS_ACCESS_KEY_ID", "AKIA12345"),
            ("AWS_SECRET_ACCESS_KEY", "AKIA12345/secret"),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_SESSION_TOKEN", ""),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let hidden = Secrets::of(&variables).hide("key AKIA12345\n in eu-west-1: AKIA12345/secret");
        assert_eq!(hidden, "key [hidden] in eu-west-1: [hidden]");
    }
}
