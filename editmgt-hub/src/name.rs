//! Names of models: aliases and repositories.

use std::fmt;
use std::str::FromStr;

use crate::HubError;
use crate::known::{KNOWN, KnownModel};

/// A model's name: an alias (`meissonic`) or a repository (`WeiChow/EditMGT`), and a revision after an `@`.
///
/// ```
/// use editmgt_hub::ModelName;
///
/// # fn main() -> Result<(), editmgt_hub::HubError> {
/// let name: ModelName = "editmgt@0a00f14ea159728fb76ac99ed741f9deca5fee28".parse()?;
/// assert_eq!(name.repository(), "WeiChow/EditMGT");
/// assert!("models/my/model".parse::<ModelName>().is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelName {
    name: String,
    repository: String,
    revision: Option<String>,
    known: Option<&'static KnownModel>,
}

impl ModelName {
    /// The repository that the revision is of.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The branch, tag or commit; `None` for `main`.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// What is known of it.
    pub fn known(&self) -> Option<&'static KnownModel> {
        self.known
    }

    /// The name without the revision.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same model at another revision.
    ///
    /// # Errors
    /// [`HubError::Name`] for text that can't be a revision.
    pub fn at(mut self, revision: &str) -> Result<Self, HubError> {
        check_revision(revision).map_err(|problem| wrong(revision, problem))?;
        self.revision = Some(revision.to_owned());
        Ok(self)
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))
    }
}

impl FromStr for ModelName {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let (name, revision) = match text.split_once('@') {
            Some((name, revision)) => (name, Some(revision)),
            None => (text, None),
        };
        if let Some(revision) = revision {
            check_revision(revision).map_err(|problem| wrong(text, problem))?;
        }
        let revision = revision.map(str::to_owned);
        let name = name.to_owned();
        if let Some(known) = KNOWN.iter().find(|model| model.alias == name) {
            let repository = known.repository.to_owned();
            return Ok(Self { name, repository, revision, known: Some(known) });
        }
        check_repository(&name).map_err(|problem| wrong(text, problem))?;
        let mut known = KNOWN.iter().filter(|model| model.repository == name);
        let first = known.next();
        if known.next().is_some() {
            let aliases = KNOWN.iter().filter(|model| model.repository == name);
            let aliases = aliases.map(|model| model.alias).collect();
            let problem = "this repository has several models";
            return Err(HubError::Name { name, problem, aliases });
        }
        Ok(Self { repository: name.clone(), name, revision, known: first })
    }
}

fn wrong(name: &str, problem: &'static str) -> HubError {
    let aliases = KNOWN.iter().map(|model| model.alias).collect();
    HubError::Name { name: name.to_owned(), problem, aliases }
}

/// The hub's rules for names.
fn check_repository(name: &str) -> Result<(), &'static str> {
    let parts: Vec<&str> = name.split('/').collect();
    if parts.len() != 2 || name.len() > 96 {
        return Err("not the name of a repository");
    }
    for part in parts {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if part.is_empty() || !part.bytes().all(plain) {
            return Err("the names of repositories have letters, digits, -, _ and .");
        }
        if part.starts_with(['-', '.']) || part.ends_with(['-', '.']) {
            return Err("the names of repositories begin and end with a letter or a digit");
        }
        if part.contains("--") || part.contains("..") {
            return Err("the names of repositories have no -- and no ..");
        }
    }
    Ok(())
}

/// Git's rules for names of branches, as far as they matter for paths and URLs.
fn check_revision(revision: &str) -> Result<(), &'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./+".contains(&byte);
    let part = |part: &str| !part.is_empty() && !part.starts_with('.');
    if revision.bytes().all(plain) && !revision.contains("..") && revision.split('/').all(part) {
        Ok(())
    } else {
        Err("not a revision: a branch, a tag or a commit")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ModelName, HubError> {
        text.parse()
    }

    #[test]
    fn aliases_and_repositories_with_revisions() {
        for (text, repository, revision, alias) in [
            ("editmgt", "WeiChow/EditMGT", None, Some("editmgt")),
            ("WeiChow/EditMGT", "WeiChow/EditMGT", None, Some("editmgt")),
            ("amused-512@v1.0", "amused/amused-512", Some("v1.0"), Some("amused-512")),
            ("muddit-1024", "MeissonFlow/Muddit", None, Some("muddit-1024")),
            ("some-one/My_Model.2@refs/pr/3", "some-one/My_Model.2", Some("refs/pr/3"), None),
        ] {
            let name = parse(text).unwrap();
            let known = name.known().map(|known| known.alias);
            assert_eq!((name.repository(), name.revision(), known), (repository, revision, alias));
            assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn refuses_what_is_neither() {
        for text in [
            "",
            "nothing",
            "a/b/c",
            "/a",
            "a/",
            "../a",
            "a/..",
            "a/b@",
            "a/b@../x",
            "a/b@/x",
            "a b/c",
            "a/b--c",
            "a/.b",
            "a\\b/c",
            "a/b@x y",
            "./a",
            "MeissonFlow/Muddit",
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains("muddit-512") && message.contains("ORG/NAME"), "{message}");
        }
    }
}
