//! Where the hub and its cache are, and the token.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::HubError;
use crate::space::free_space;

const ENDPOINT: &str = "https://huggingface.co";

/// An access token. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token, without the white space around it; `None` for an empty one.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Where the hub and its cache are, and how downloads behave.
///
/// [`from_env`](Self::from_env) is the only place that reads environment variables.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HubSettings {
    /// The cache: the folder that has `models--ORG--NAME`.
    pub cache: PathBuf,
    /// The hub's URL, without a slash at the end.
    pub endpoint: String,
    /// Sent to the endpoint, and never to another host that it redirects to.
    pub token: Option<Token>,
    /// Whether nothing may be asked.
    pub offline: bool,
    /// Whether `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` apply.
    pub system_proxy: bool,
    /// How often in a row a request is repeated that was cut, or refused with 429 or 5xx.
    pub retries: u32,
    /// The wait before the first repetition where the hub names none; it doubles each time.
    pub first_wait: Duration,
    /// The longest wait; a hub that asks for a longer one ends the download.
    pub longest_wait: Duration,
    /// The longest silence of a connection before it counts as cut.
    pub timeout: Duration,
    /// Bytes that are free on the disk of a path; `None` where unknown.
    pub free_space: fn(&Path) -> Option<u64>,
}

impl HubSettings {
    /// The public hub without a token, with this cache.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self {
            cache: cache.into(),
            endpoint: ENDPOINT.to_owned(),
            token: None,
            offline: false,
            system_proxy: false,
            retries: 5,
            first_wait: Duration::from_secs(1),
            // The hub's limits are those of 5 minutes.
            longest_wait: Duration::from_secs(310),
            timeout: Duration::from_secs(60),
            free_space,
        }
    }

    /// The settings of Python's `huggingface_hub`:
    ///
    /// | variable | meaning | default |
    /// |---|---|---|
    /// | `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE` | the cache | `$HF_HOME/hub` |
    /// | `HF_HOME` | folder of cache and token | `$XDG_CACHE_HOME/huggingface`, `~/.cache/huggingface` |
    /// | `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN` | the token | the file `HF_TOKEN_PATH` |
    /// | `HF_TOKEN_PATH` | the file with the token, as `hf auth login` writes it | `$HF_HOME/token` |
    /// | `HF_HUB_DISABLE_IMPLICIT_TOKEN` | 1, ON, YES or TRUE: neither of them is sent | off |
    /// | `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE` | 1, ON, YES or TRUE: nothing is asked | off |
    /// | `HF_ENDPOINT` | the hub's URL | `https://huggingface.co` |
    ///
    /// In the paths `~` at the beginning is the user's home, and `$NAME` and `${NAME}` are
    /// variables.
    ///
    /// # Errors
    /// [`HubError::NoHome`] where neither a variable nor the user's home names a cache;
    /// [`HubError::Io`] for a token file that exists and can't be read.
    pub fn from_env() -> Result<Self, HubError> {
        Self::from_variables(|name| std::env::var_os(name), std::env::home_dir())
    }

    /// The same of other variables. Empty ones count as unset.
    ///
    /// # Errors
    /// Those of [`from_env`](Self::from_env).
    pub fn from_variables(
        variable: impl Fn(&str) -> Option<OsString>,
        home: Option<PathBuf>,
    ) -> Result<Self, HubError> {
        let find = &variable;
        let variable = |names: &[&str]| {
            let mut values = names.iter().filter_map(|name| find(name));
            values.find(|value| !value.is_empty())
        };
        let text =
            |names: &[&str]| variable(names).map(|value| value.to_string_lossy().into_owned());
        let path = |names: &[&str]| {
            variable(names)
                .map(|value| expand_variables(expand(value.into(), home.as_deref()), find))
        };
        let user = home.clone().filter(|home| !home.as_os_str().is_empty());
        let folder = path(&["HF_HOME"])
            .or_else(|| path(&["XDG_CACHE_HOME"]).map(|cache| cache.join("huggingface")))
            .or_else(|| user.map(|home| home.join(".cache").join("huggingface")));
        let cache = path(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"])
            .or_else(|| folder.as_ref().map(|folder| folder.join("hub")))
            .ok_or(HubError::NoHome)?;
        let token_file = path(&["HF_TOKEN_PATH"]).or_else(|| folder.map(|dir| dir.join("token")));
        let is_true = |value: &str| {
            ["1", "ON", "YES", "TRUE"].contains(&value.trim().to_uppercase().as_str())
        };
        let is_on = |names: &[&str]| text(names).as_deref().is_some_and(is_true);
        let token = match text(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]) {
            _ if is_on(&["HF_HUB_DISABLE_IMPLICIT_TOKEN"]) => None,
            Some(token) => Token::new(&token),
            None => token_file.as_deref().map(read_token).transpose()?.flatten(),
        };
        let endpoint = text(&["HF_ENDPOINT"]).unwrap_or_else(|| ENDPOINT.to_owned());
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token,
            offline: is_on(&["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]),
            system_proxy: true,
            ..Self::new(cache)
        })
    }
}

/// `~` at the beginning of a path is the user's home.
fn expand(path: PathBuf, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

/// Replaces `$NAME` and `${NAME}` by the variables of these names, as Python's `expandvars` does:
/// unset ones stay, and values are not expanded again. A path that is not Unicode is left as it is.
fn expand_variables(path: PathBuf, variable: &impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let Some(text) = path.to_str().filter(|text| text.contains('$')) else { return path };
    let mut expanded = OsString::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push(before);
        let braced = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        let (name, after_name) = braced.unwrap_or_else(|| {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            after.split_at(after.find(|c| !is_name(c)).unwrap_or(after.len()))
        });
        let whole = &rest[before.len()..rest.len() - after_name.len()];
        match variable(name) {
            Some(value) => expanded.push(value),
            None => expanded.push(whole),
        }
        rest = after_name;
    }
    expanded.push(rest);
    expanded.into()
}

fn read_token(path: &Path) -> Result<Option<Token>, HubError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Token::new(&text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Ok(None),
        Err(cause) => Err(HubError::Io { path: path.to_owned(), cause }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> HubSettings {
        let find = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        };
        HubSettings::from_variables(find, Some("/home/u".into())).unwrap()
    }

    #[test]
    fn cache_is_that_of_python() {
        for (variables, cache) in [
            (&[][..], "/home/u/.cache/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/h/hub"),
            (&[("HF_HOME", "~/h")], "/home/u/h/hub"),
            (&[("HF_HOME", "")], "/home/u/.cache/huggingface/hub"),
            (&[("HF_HOME", "$D/zz"), ("D", "/d")], "/d/zz/hub"),
            (&[("HF_HOME", "${D}zz/$E/$D"), ("D", "/d"), ("E", "$D")], "/dzz/$D//d/hub"),
            (&[("HF_HOME", "~/$D_x/$"), ("D", "/d"), ("D_x", "e")], "/home/u/e/$/hub"),
            (
                &[("HF_HOME", "/$UNSET/${UNSET}/${D/$=/${}"), ("D", "d")],
                "/$UNSET/${UNSET}/${D/$=/${}/hub",
            ),
            (&[("HF_HUB_CACHE", "/ü$D"), ("D", "d")], "/üd"),
            (&[("XDG_CACHE_HOME", "$D"), ("D", "/d")], "/d/huggingface/hub"),
            (&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")], "/c"),
            (&[("HF_HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/c")], "/c"),
        ] {
            assert_eq!(settings(variables).cache, Path::new(cache), "{variables:?}");
        }
        let homeless = HubSettings::from_variables(|_| None, None);
        assert!(matches!(homeless, Err(HubError::NoHome)));
    }

    #[test]
    fn offline_and_endpoint_are_those_of_python() {
        for (value, offline) in
            [("1", true), ("on", true), ("Yes", true), ("TRUE", true), ("0", false), ("", false)]
        {
            assert_eq!(settings(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value}");
        }
        assert!(settings(&[("TRANSFORMERS_OFFLINE", "1")]).offline);
        assert_eq!(settings(&[]).endpoint, "https://huggingface.co");
        assert_eq!(settings(&[("HF_ENDPOINT", "http://mirror/")]).endpoint, "http://mirror");
    }

    #[test]
    fn token_is_a_variable_or_a_file_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        assert_eq!(settings(&[("HF_HOME", home)]).token, None);
        std::fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(settings(&[("HF_HOME", home)]).token, Token::new("hf_file"));
        let both = settings(&[("HF_HOME", home), ("HF_TOKEN", " hf_variable ")]);
        assert_eq!(both.token, Token::new("hf_variable"));
        assert!(!format!("{both:?}").contains("hf_variable"));
        std::fs::write(dir.path().join("other"), "hf_other").unwrap();
        let other = dir.path().join("other");
        let named = settings(&[("HF_HOME", home), ("HF_TOKEN_PATH", other.to_str().unwrap())]);
        assert_eq!(named.token, Token::new("hf_other"));
        let disabled = |value, name, token| {
            settings(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", value), (name, token)]).token
        };
        for value in ["1", "true", "Yes", "ON"] {
            assert_eq!(disabled(value, "HF_TOKEN", "hf_variable"), None, "{value}");
            assert_eq!(disabled(value, "HF_HOME", home), None, "{value}");
        }
        assert_eq!(disabled("0", "HF_HOME", home), Token::new("hf_file"));
    }
}
