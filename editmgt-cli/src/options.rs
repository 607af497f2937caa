//! The options of an edit, from the library's table of them.

use clap::builder::ValueParser;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use editmgt::{EditError, EditRequest, HoldPolicy, Holding, KeywordPolicy};

const WHERE: &str = "Where the photo may change";
const SAMPLING: &str = "Sampling";
const IMAGE: &str = "Image";

/// An option of the table on the command line.
struct Flag {
    /// Its key in the table.
    name: &'static str,
    long: &'static str,
    /// Names of its values.
    values: &'static [&'static str],
    heading: &'static str,
}

const fn flag(
    name: &'static str,
    long: &'static str,
    values: &'static [&'static str],
    heading: &'static str,
) -> Flag {
    Flag { name, long, values, heading }
}

/// Options that are values, the everyday ones first.
const FLAGS: [Flag; 16] = [
    flag("hold", "hold", &["POLICY"], WHERE),
    flag("hold_margin", "hold-margin", &["TOKENS"], WHERE),
    flag("composite", "composite", &["POLICY"], WHERE),
    flag("feather", "feather", &["PIXELS"], WHERE),
    flag("blend", "blend", &["HOW"], WHERE),
    flag("keyword_maps", "keyword-maps", &["HOW"], WHERE),
    flag("map_filter", "map-filter", &["HOW"], WHERE),
    flag("blocks", "blocks", &["BLOCK,…"], WHERE),
    flag("steps", "steps", &["N"], SAMPLING),
    flag("seed", "seed", &["SEED"], SAMPLING),
    flag("variation", "variation", &["I"], SAMPLING),
    flag("guidance_scale", "guidance", &["SCALE"], SAMPLING),
    flag("reference_strength", "strength", &["STRENGTH"], SAMPLING),
    flag("temperature", "temperature", &["FIRST", "LAST"], SAMPLING),
    flag("negative_prompt", "negative", &["WORDS"], SAMPLING),
    flag("size", "size", &["PIXELS"], IMAGE),
];

/// After `size`, which they are read with.
const GEOMETRY: [Flag; 2] =
    [flag("resize", "resize", &["HOW"], IMAGE), flag("tile", "tile", &["PIXELS"], IMAGE)];

fn flags() -> impl Iterator<Item = &'static Flag> {
    FLAGS.iter().chain(&GEOMETRY)
}

/// The values of [`FLAGS`] that were given.
#[derive(Clone)]
struct TableArgs(Vec<(&'static str, String)>);

impl Args for TableArgs {
    fn augment_args(command: Command) -> Command {
        let options = EditRequest::options();
        flags()
            .fold(command, |command, flag| {
                let option = options.iter().find(|option| option.name == flag.name);
                let option = option.expect("a flag is an option of the table");
                let parse = {
                    let (name, count) = (flag.name, flag.values.len());
                    move |text: &str| -> Result<String, EditError> {
                        // Several values are read together, later.
                        if count == 1 {
                            EditRequest::default().set(name, text)?;
                        }
                        Ok(text.to_owned())
                    }
                };
                let default = match (&option.default, option.of_model) {
                    (Some(default), false) => format!(" [default: {default}]"),
                    (Some(default), true) if default.len() < 20 => {
                        format!(" [default: the model's; officially {}]", default.replace(',', " "))
                    }
                    (_, true) => " [default: the model's]".to_owned(),
                    (None, false) => String::new(),
                };
                command.arg(
                    Arg::new(flag.name)
                        .long(flag.long)
                        .value_names(flag.values)
                        .num_args(flag.values.len())
                        .allow_negative_numbers(true)
                        .allow_hyphen_values(flag.name == "negative_prompt")
                        .value_parser(ValueParser::new(parse))
                        .help(format!("{}{default}", option.doc.replace('`', "")))
                        .help_heading(flag.heading),
                )
            })
            .mut_arg("keyword_maps", |arg| arg.requires("keyword"))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for TableArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = flags().filter_map(|flag| {
            let values = matches.get_many::<String>(flag.name)?;
            let values: Vec<&str> = values.map(String::as_str).collect();
            Some((flag.name, values.join(",")))
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The options of an edit.
#[derive(Args)]
pub struct RequestArgs {
    #[command(flatten)]
    table: TableArgs,
    /// Words of the instruction whose attention counts for --hold; may be given several times
    /// [default: the model's; officially all of it]
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true, help_heading = WHERE)]
    keyword: Vec<String>,
    /// Take the content words of the instruction as --keyword
    #[arg(long, conflicts_with = "keyword", help_heading = WHERE)]
    auto_keyword: bool,
    /// Let all of the instruction count for --hold, whatever the model's default
    #[arg(long, conflicts_with_all = ["keyword", "auto_keyword"], help_heading = WHERE)]
    no_keyword: bool,
    /// Treat what is held exactly like the official code (it can change after all)
    #[arg(long, conflicts_with = "strict", help_heading = WHERE)]
    parity: bool,
    /// What is held stays held, as by default
    #[arg(long, help_heading = WHERE)]
    strict: bool,
    /// The fraction of the steps, 0 to 1, before which there is no guidance [default: 0]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, help_heading = SAMPLING)]
    guidance_from: Option<f32>,
    /// The fraction of the steps, 0 to 1, after which there is no guidance [default: 1]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, help_heading = SAMPLING)]
    guidance_until: Option<f32>,
}

impl RequestArgs {
    /// `base` with the options that were given.
    ///
    /// # Errors
    /// [`EditError::Option`] for a value that can't be parsed.
    pub fn request(&self, base: EditRequest) -> Result<EditRequest, EditError> {
        let mut request = base;
        for (name, text) in &self.table.0 {
            request.set(name, text).map_err(by_flag)?;
        }
        let unread = self.table.0.iter().any(|(name, _)| *name == "hold")
            && request.hold.as_ref().is_some_and(|hold| !HoldPolicy::needs_scores(hold))
            && !request.score_map;
        if unread {
            // The keyword of the edit that this one is like has nothing left to say.
            request.keyword = None;
        }
        if let Some(keyword) = self.keyword() {
            request.keyword = Some(keyword);
        }
        if self.parity {
            request.holding = Holding::Parity;
        }
        if self.strict {
            request.holding = Holding::Strict;
        }
        if self.guidance_from.is_some() || self.guidance_until.is_some() {
            let (from, until) = request.guidance_interval.unwrap_or((0.0, 1.0));
            let from = self.guidance_from.unwrap_or(from);
            request.guidance_interval = Some((from, self.guidance_until.unwrap_or(until)));
        }
        Ok(request)
    }

    fn keyword(&self) -> Option<KeywordPolicy> {
        if self.auto_keyword {
            Some(KeywordPolicy::Auto)
        } else if self.no_keyword {
            Some(KeywordPolicy::All)
        } else if self.keyword.is_empty() {
            None
        } else {
            Some(KeywordPolicy::Phrases(self.keyword.clone()))
        }
    }
}

/// An error about an option, by the name that the option has here.
pub fn by_flag(error: EditError) -> EditError {
    match error {
        EditError::Option { option, expected, got } => {
            let flag = flags().find(|flag| flag.name == option);
            EditError::option(flag.map_or(option, |flag| flag.long), expected, got)
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_of_the_table_can_be_given() {
        // Those that are flags or several values of their own.
        const OTHERWISE: [&str; 4] = ["keyword", "guidance_interval", "holding", "score_map"];
        for option in EditRequest::options() {
            let is_flag = flags().any(|flag| flag.name == option.name);
            assert!(is_flag != OTHERWISE.contains(&option.name), "{}", option.name);
        }
    }
}
