//! The options of requests, from the library's tables of them.

use std::marker::PhantomData;

use clap::builder::ValueParser;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use editmgt::photo::Margins;
use editmgt::{
    EditError, EditRequest, GenerateRequest, HoldPolicy, Holding, KeywordPolicy, OptionInfo, Task,
};

use crate::number::{PIXELS, number};

const WHERE: &str = "Where the photo may change";
const SAMPLING: &str = "Sampling";
const IMAGE: &str = "Image";

/// An option of a table on the command line.
#[derive(Clone, Copy)]
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
const FLAGS: [Flag; 24] = [
    flag("hold", "hold", &["POLICY"], WHERE),
    flag("hold_margin", "hold-margin", &["TOKENS"], WHERE),
    flag("composite", "composite", &["POLICY"], WHERE),
    flag("feather", "feather", &["PIXELS"], WHERE),
    flag("blend", "blend", &["HOW"], WHERE),
    flag("keyword_maps", "keyword-maps", &["HOW"], WHERE),
    flag("map_filter", "map-filter", &["HOW"], WHERE),
    flag("blocks", "blocks", &["BLOCK,…"], WHERE),
    flag("steps", "steps", &["N"], SAMPLING),
    flag("steps_plan", "steps-plan", &["PLAN"], SAMPLING),
    flag("guidance_reuse", "guidance-reuse", &["true|false"], SAMPLING),
    flag("cache_dtype", "cache-dtype", &["model|bf16"], SAMPLING),
    flag("seed", "seed", &["SEED"], SAMPLING),
    flag("variation", "variation", &["I"], SAMPLING),
    flag("guidance_scale", "guidance", &["SCALE"], SAMPLING),
    flag("reference_strength", "strength", &["STRENGTH"], SAMPLING),
    flag("temperature", "temperature", &["FIRST", "LAST"], SAMPLING),
    flag("masking_schedule", "masking", &["HOW"], SAMPLING),
    flag("negative_prompt", "negative", &["WORDS"], SAMPLING),
    flag("width", "width", &["PIXELS"], IMAGE),
    flag("height", "height", &["PIXELS"], IMAGE),
    flag("size", "size", &["PIXELS"], IMAGE),
    // After `size`, which they are read with.
    flag("resize", "resize", &["HOW"], IMAGE),
    flag("tile", "tile", &["PIXELS"], IMAGE),
];

/// A kind of request, and the options that a command has for it.
trait Table: Clone + Send + Sync + 'static {
    type Request: Default;

    /// Whether the defaults of the official script are those of every model.
    const HAS_OFFICIAL_DEFAULTS: bool;

    fn options() -> Vec<OptionInfo>;

    /// Whether the command has this option of the table as a flag.
    fn has(name: &str) -> bool;

    fn set(request: &mut Self::Request, name: &str, text: &str) -> Result<(), EditError>;

    fn flags() -> impl Iterator<Item = &'static Flag> {
        let options = Self::options();
        let in_table = move |name| options.iter().any(|option| option.name == name);
        FLAGS.iter().filter(move |flag| in_table(flag.name) && Self::has(flag.name))
    }
}

/// `editmgt edit`.
#[derive(Clone)]
struct EditTable;

/// `editmgt inpaint` and `outpaint`.
#[derive(Clone)]
struct InpaintTable;

/// `editmgt generate`.
#[derive(Clone)]
struct GenerateTable;

impl Table for EditTable {
    type Request = EditRequest;
    const HAS_OFFICIAL_DEFAULTS: bool = true;

    fn options() -> Vec<OptionInfo> {
        EditRequest::options()
    }

    fn has(_: &str) -> bool {
        true
    }

    fn set(request: &mut EditRequest, name: &str, text: &str) -> Result<(), EditError> {
        request.set(name, text)
    }
}

impl Table for InpaintTable {
    type Request = EditRequest;
    const HAS_OFFICIAL_DEFAULTS: bool = false;

    fn options() -> Vec<OptionInfo> {
        EditRequest::options()
    }

    /// Nothing is held by scores.
    fn has(name: &str) -> bool {
        !["hold", "hold_margin", "keyword_maps", "map_filter", "blocks"].contains(&name)
    }

    fn set(request: &mut EditRequest, name: &str, text: &str) -> Result<(), EditError> {
        request.set(name, text)
    }
}

impl Table for GenerateTable {
    type Request = GenerateRequest;
    const HAS_OFFICIAL_DEFAULTS: bool = false;

    fn options() -> Vec<OptionInfo> {
        GenerateRequest::options()
    }

    fn has(_: &str) -> bool {
        true
    }

    fn set(request: &mut GenerateRequest, name: &str, text: &str) -> Result<(), EditError> {
        request.set(name, text)
    }
}

/// The values of a table's flags that were given.
#[derive(Clone)]
struct TableArgs<T> {
    given: Vec<(&'static str, String)>,
    table: PhantomData<T>,
}

impl<T: Table> TableArgs<T> {
    /// Sets what was given.
    fn apply(&self, request: &mut T::Request) -> Result<(), EditError> {
        self.given.iter().try_for_each(|(name, text)| T::set(request, name, text).map_err(by_flag))
    }
}

impl<T: Table> Args for TableArgs<T> {
    fn augment_args(command: Command) -> Command {
        let options = T::options();
        let command = T::flags().fold(command, |command, flag| {
            let option = options.iter().find(|option| option.name == flag.name);
            let option = option.expect("a flag is an option of the table");
            let parse = {
                let (name, count) = (flag.name, flag.values.len());
                move |text: &str| -> Result<String, EditError> {
                    // Several values are read together, later.
                    if count == 1 {
                        T::set(&mut T::Request::default(), name, text)?;
                    }
                    Ok(text.to_owned())
                }
            };
            let default = match (&option.default, option.of_model) {
                (Some(default), false) => format!(" [default: {default}]"),
                (Some(default), true) if T::HAS_OFFICIAL_DEFAULTS && default.len() < 20 => {
                    format!(" [default: the model's; officially {}]", default.replace(',', " "))
                }
                (_, true) => " [default: the model's]".to_owned(),
                (None, false) => String::new(),
            };
            let arg = Arg::new(flag.name)
                .long(flag.long)
                .value_names(flag.values)
                .num_args(flag.values.len())
                .allow_negative_numbers(true)
                .allow_hyphen_values(flag.name == "negative_prompt")
                .value_parser(ValueParser::new(parse))
                .help(format!("{}{default}", option.doc.replace('`', "")))
                .help_heading(flag.heading);
            command.arg(match flag.name {
                "negative_prompt" => arg.visible_alias("negative-prompt"),
                _ => arg,
            })
        });
        if T::flags().any(|flag| flag.name == "keyword_maps") {
            command.mut_arg("keyword_maps", |arg| arg.requires("keyword"))
        } else {
            command
        }
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<T: Table> FromArgMatches for TableArgs<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = T::flags().filter_map(|flag| {
            let values = matches.get_many::<String>(flag.name)?;
            let values: Vec<&str> = values.map(String::as_str).collect();
            Some((flag.name, values.join(",")))
        });
        Ok(Self { given: given.collect(), table: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Options of every request that are not flags of its table.
#[derive(Args)]
struct LoopArgs {
    /// The fraction of the steps, 0 to 1, before which there is no guidance [default: 0]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, help_heading = SAMPLING)]
    guidance_from: Option<f32>,
    /// The fraction of the steps, 0 to 1, after which there is no guidance [default: 1]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, help_heading = SAMPLING)]
    guidance_until: Option<f32>,
    /// Run a model that was not trained for this
    #[arg(long, help_heading = SAMPLING)]
    anyway: bool,
}

impl LoopArgs {
    /// The interval of guidance that was given, over `before`.
    fn guidance_interval(&self, before: Option<(f32, f32)>) -> Option<(f32, f32)> {
        if self.guidance_from.is_none() && self.guidance_until.is_none() {
            return before;
        }
        let (from, until) = before.unwrap_or((0.0, 1.0));
        Some((self.guidance_from.unwrap_or(from), self.guidance_until.unwrap_or(until)))
    }
}

/// The options of an edit.
#[derive(Args)]
pub struct RequestArgs {
    #[command(flatten)]
    table: TableArgs<EditTable>,
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
    #[command(flatten)]
    of_loop: LoopArgs,
}

impl RequestArgs {
    /// `base` with the options that were given.
    ///
    /// # Errors
    /// [`EditError::Option`] for a value that can't be parsed.
    pub fn request(&self, base: EditRequest) -> Result<EditRequest, EditError> {
        let mut request = base;
        self.table.apply(&mut request)?;
        let unread = self.table.given.iter().any(|(name, _)| *name == "hold")
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
        request.guidance_interval = self.of_loop.guidance_interval(request.guidance_interval);
        request.anyway |= self.of_loop.anyway;
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

/// The options of an inpainting or an outpainting.
#[derive(Args)]
pub struct InpaintArgs {
    #[command(flatten)]
    table: TableArgs<InpaintTable>,
    #[command(flatten)]
    of_loop: LoopArgs,
}

impl InpaintArgs {
    /// `base` as a request of this task, with the options that were given.
    ///
    /// # Errors
    /// [`EditError::Option`] for a value that can't be parsed.
    pub fn request(&self, base: EditRequest, task: Task) -> Result<EditRequest, EditError> {
        let mut request = base;
        if !request.task.is_inpainting() {
            // An edit's policy has no meaning here.
            request.hold = None;
        }
        request.task = task;
        self.table.apply(&mut request)?;
        request.guidance_interval = self.of_loop.guidance_interval(request.guidance_interval);
        request.anyway |= self.of_loop.anyway;
        Ok(request)
    }
}

/// The margins of an outpainting.
#[derive(Args)]
pub struct MarginArgs {
    /// Columns to generate on the left of the photo
    #[arg(long, value_name = "PIXELS", default_value_t = 0, help_heading = IMAGE)]
    #[arg(value_parser = number::<usize>(PIXELS), allow_negative_numbers = true)]
    left: usize,
    /// Rows to generate above it
    #[arg(long, value_name = "PIXELS", default_value_t = 0, help_heading = IMAGE)]
    #[arg(value_parser = number::<usize>(PIXELS), allow_negative_numbers = true)]
    top: usize,
    /// Columns to generate on its right
    #[arg(long, value_name = "PIXELS", default_value_t = 0, help_heading = IMAGE)]
    #[arg(value_parser = number::<usize>(PIXELS), allow_negative_numbers = true)]
    right: usize,
    /// Rows to generate below it
    #[arg(long, value_name = "PIXELS", default_value_t = 0, help_heading = IMAGE)]
    #[arg(value_parser = number::<usize>(PIXELS), allow_negative_numbers = true)]
    bottom: usize,
}

impl MarginArgs {
    /// The margins that were given, or those of `like` where none was.
    pub fn margins(&self, like: Task) -> Margins {
        let Self { left, top, right, bottom } = *self;
        match like {
            Task::Outpaint(margins) if [left, top, right, bottom] == [0; 4] => margins,
            _ => Margins { left, top, right, bottom },
        }
    }
}

/// The options of generated images.
#[derive(Args)]
pub struct GenerateArgs {
    #[command(flatten)]
    table: TableArgs<GenerateTable>,
    #[command(flatten)]
    of_loop: LoopArgs,
}

impl GenerateArgs {
    /// `base` with the options that were given.
    ///
    /// # Errors
    /// [`EditError::Option`] for a value that can't be parsed.
    pub fn request(&self, base: GenerateRequest) -> Result<GenerateRequest, EditError> {
        let mut request = base;
        self.table.apply(&mut request)?;
        request.guidance_interval = self.of_loop.guidance_interval(request.guidance_interval);
        request.anyway |= self.of_loop.anyway;
        Ok(request)
    }
}

/// An error about an option, by the name that the option has here.
pub fn by_flag(error: EditError) -> EditError {
    match error {
        EditError::Option { option, expected, got } => {
            let flag = FLAGS.iter().find(|flag| flag.name == option);
            EditError::option(flag.map_or(option, |flag| flag.long), expected, got)
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_of_the_tables_can_be_given() {
        // Those that are flags, commands or several values of their own.
        const OTHERWISE: [&str; 7] =
            ["keyword", "guidance_interval", "holding", "score_map", "task", "anyway", "count"];
        for option in EditRequest::options() {
            let is_flag = EditTable::flags().any(|flag| flag.name == option.name);
            assert!(is_flag != OTHERWISE.contains(&option.name), "{}", option.name);
        }
        for option in GenerateRequest::options() {
            let is_flag = GenerateTable::flags().any(|flag| flag.name == option.name);
            assert!(is_flag != OTHERWISE.contains(&option.name), "{}", option.name);
        }
        assert!(InpaintTable::flags().all(|flag| flag.name != "hold"));
        assert!(InpaintTable::flags().any(|flag| flag.name == "feather"));
    }
}
