//! Names of models: aliases and repositories.

use std::fmt;
use std::str::FromStr;

use crate::HubError;
use crate::known::{KNOWN, KnownModel};

/// A model's name: an alias (`meissonic`) or a repository (`WeiChow/EditMGT`), and a revision after
/// an `@`; or the address of the repository's page.
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
        let (name, revision) = match page(text).map_err(|problem| wrong(text, problem))? {
            Some(of_page) => of_page,
            None => match text.split_once('@') {
                Some((name, revision)) => (name, Some(revision)),
                None => (text, None),
            },
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

/// The repository and the revision of a page of the hub,
/// `https://huggingface.co/ORG/NAME/tree/REVISION` for instance; `None` for text that is no
/// address.
fn page(text: &str) -> Result<Option<(&str, Option<&str>)>, &'static str> {
    let Some((scheme, rest)) = text.split_once("://") else { return Ok(None) };
    let rest = rest.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if !["https", "http"].contains(&scheme)
        || !["huggingface.co", "www.huggingface.co", "hf.co"].contains(&host)
    {
        return Err("not an address of a repository on https://huggingface.co");
    }
    if ["datasets/", "spaces/"].iter().any(|start| path.starts_with(start)) {
        return Err("the address of a dataset or a Space, not of a model");
    }
    let mut ends = path.match_indices('/').map(|(at, _)| at).skip(1);
    let Some(end) = ends.next() else { return Ok(Some((path, None))) };
    let (name, rest) = (&path[..end], &path[end + 1..]);
    match rest.split_once('/') {
        Some(("tree" | "commit", revision)) => Ok(Some((name, Some(revision)))),
        _ => Err("not the page of a repository (https://huggingface.co/ORG/NAME)"),
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
    fn pages_of_the_hub_are_names() {
        for (text, expected) in [
            ("https://huggingface.co/WeiChow/EditMGT", "WeiChow/EditMGT"),
            ("https://huggingface.co/WeiChow/EditMGT/", "WeiChow/EditMGT"),
            ("http://hf.co/WeiChow/EditMGT?not-for-all-audiences=true", "WeiChow/EditMGT"),
            ("https://huggingface.co/WeiChow/EditMGT/tree/main", "WeiChow/EditMGT@main"),
            ("https://huggingface.co/a/b/tree/refs/pr/3", "a/b@refs/pr/3"),
            ("https://huggingface.co/a/b/commit/0a00f14e#files", "a/b@0a00f14e"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), expected, "{text}");
        }
        for (text, named) in [
            ("https://huggingface.co/datasets/a/b", "a dataset or a Space"),
            ("https://huggingface.co/spaces/a/b", "a dataset or a Space"),
            ("https://example.com/a/b", "https://huggingface.co"),
            ("file:///a/b", "https://huggingface.co"),
            ("https://huggingface.co/a/b/blob/main/model.safetensors", "the page of a repository"),
            ("https://huggingface.co/a/b/tree/", "the page of a repository"),
            ("https://huggingface.co/a", "not the name of a repository"),
            ("https://huggingface.co", "not the name of a repository"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(named), "{text}: {message}");
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
