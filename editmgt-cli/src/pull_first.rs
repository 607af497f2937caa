//! `--pull` of the commands that take a model.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use crate::model::ComputeArgs;

/// Whether the model is downloaded first.
#[derive(Args)]
pub(crate) struct PullFirst {
    /// Download the model first if the hub's cache lacks it, as `editmgt pull` does
    #[cfg(feature = "hub")]
    #[arg(long)]
    pull: bool,
}

impl PullFirst {
    /// Downloads the model of these options. `Some` with the exit status if that was stopped.
    pub(crate) fn run(
        &self,
        compute: &ComputeArgs,
        quiet: bool,
    ) -> Result<Option<ExitCode>, Box<dyn Error>> {
        self.run_named(compute.model_path(), compute.variant(), quiet)
    }

    /// Downloads what the cache lacks of the model of this name. A path that exists is left as it
    /// is.
    #[cfg(feature = "hub")]
    pub(crate) fn run_named(
        &self,
        model: Option<&Path>,
        variant: Option<&str>,
        quiet: bool,
    ) -> Result<Option<ExitCode>, Box<dyn Error>> {
        use editmgt::hub::PullRequest;

        let missing = model.filter(|model| self.pull && !model.exists());
        let Some(name) = missing.and_then(Path::to_str) else { return Ok(None) };
        let mut request = PullRequest::new(name);
        if let Some(variant) = variant {
            request = request.variant(variant);
        }
        Ok(crate::pull::fetch(&request, quiet)?.err())
    }

    /// Without the feature `hub` there is nothing to download from.
    #[cfg(not(feature = "hub"))]
    pub(crate) fn run_named(
        &self,
        _model: Option<&Path>,
        _variant: Option<&str>,
        _quiet: bool,
    ) -> Result<Option<ExitCode>, Box<dyn Error>> {
        Ok(None)
    }
}
