//! The table that a kind of request is made from: what a request, a model's defaults and the
//! settings in force have in common is stated there once.

/// Makes the three structs of a kind of request, and what goes from one to the other, out of one
/// table.
///
/// `model` options may have a default in a model's folder: `Option`s in request and defaults.
/// `plain` options have the same default everywhere. Each row: field, type; the accepted values in
/// words, the test of a value; the default.
macro_rules! request_table {
    (
        $(#[$request_meta:meta])*
        request $Request:ident {
            $(#[doc = $words_doc:literal])+
            $words:ident;
            $($(#[$extra_meta:meta])+ $extra:ident: $extra_type:ty;)*
        }
        $(#[$defaults_meta:meta])*
        defaults $Defaults:ident {
            $($(#[$own_meta:meta])+ $own:ident: $own_type:ty;)*
        }
        $(#[$settings_meta:meta])*
        settings $Settings:ident;
        model {
            $(
                $(#[doc = $doc:literal])+
                $name:ident: $type:ty;
                $expected:literal, $valid:expr;
                default $default:expr;
            )+
        }
        plain {
            $(
                $(#[doc = $plain_doc:literal])+
                $plain:ident: $plain_type:ty;
                $plain_expected:literal, $plain_valid:expr;
                default $plain_default:expr;
            )+
        }
    ) => {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        $(#[$request_meta])*
        pub struct $Request {
            $(#[doc = $words_doc])+
            pub $words: String,
            $(
                $(#[$extra_meta])+
                #[serde(skip)]
                pub $extra: $extra_type,
            )*
            $(
                $(#[doc = $doc])+
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $name: Option<$type>,
            )+
            $(
                $(#[doc = $plain_doc])+
                pub $plain: $plain_type,
            )+
        }

        impl Default for $Request {
            fn default() -> Self {
                Self {
                    $words: String::new(),
                    $($extra: Default::default(),)*
                    $($name: None,)+
                    $($plain: $plain_default,)+
                }
            }
        }

        /// One setter for each option; those of options that a model may have defaults for take
        /// `None`, too.
        impl $Request {
            $(
                $(#[doc = $doc])+
                #[must_use]
                pub fn $name(mut self, $name: impl Into<Option<$type>>) -> Self {
                    self.$name = $name.into();
                    self
                }
            )+
            $(
                $(#[doc = $plain_doc])+
                #[must_use]
                pub fn $plain(mut self, $plain: $plain_type) -> Self {
                    self.$plain = $plain;
                    self
                }
            )+

            /// All options, in order.
            pub fn options() -> Vec<OptionInfo> {
                vec![
                    $(OptionInfo {
                        name: stringify!($name),
                        doc: joined(&[$($doc),+]),
                        expected: $expected,
                        default: Option::<$type>::as_ref(&$default).map(OptionText::to_text),
                        of_model: true,
                    },)+
                    $(OptionInfo {
                        name: stringify!($plain),
                        doc: joined(&[$($plain_doc),+]),
                        expected: $plain_expected,
                        default: Some(<$plain_type as OptionText>::to_text(&$plain_default)),
                        of_model: false,
                    },)+
                ]
            }

            /// Sets the option `name` to a value given as text: words and numbers as in JSON but
            /// without quotes, lists and pairs with commas (`2,0`).
            ///
            /// # Errors
            /// [`EditError::Option`] for an unknown option or a text that is no value of it. The
            /// range is checked by [`check`](Self::check).
            pub fn set(&mut self, name: &str, text: &str) -> Result<(), EditError> {
                match name {
                    $(stringify!($name) => {
                        self.$name = Some(read(stringify!($name), $expected, text)?);
                    })+
                    $(stringify!($plain) => {
                        self.$plain = read(stringify!($plain), $plain_expected, text)?;
                    })+
                    _ => {
                        let known = Self::options();
                        let known: Vec<_> = known.iter().map(|option| option.name).collect();
                        return Err(EditError::option("option", known.join(", "), name));
                    }
                }
                Ok(())
            }

            /// The options that are not as in a new request, in order: their names, and the texts
            /// that [`set`](Self::set) reads as their values.
            pub fn texts(&self) -> Vec<(&'static str, String)> {
                let mut texts = Vec::new();
                $(
                    if let Some(value) = &self.$name {
                        texts.push((stringify!($name), OptionText::to_text(value)));
                    }
                )+
                $(
                    if self.$plain != $plain_default {
                        texts.push((stringify!($plain), OptionText::to_text(&self.$plain)));
                    }
                )+
                texts
            }

            /// The first option that is out of range: its name, what was expected, what came.
            pub(super) fn out_of_range(&self) -> Option<(&'static str, &'static str, String)> {
                $(
                    let valid: fn(&$plain_type) -> bool = $plain_valid;
                    if !valid(&self.$plain) {
                        let got = OptionText::to_text(&self.$plain);
                        return Some((stringify!($plain), $plain_expected, got));
                    }
                )+
                self.said().out_of_range()
            }

            /// The same with these options in the place of its own.
            pub(super) fn with(&self, options: $Defaults) -> Self {
                Self { $($name: options.$name,)+ ..self.clone() }
            }

            /// The options that a model may have defaults for.
            pub(super) fn said(&self) -> $Defaults {
                $Defaults { $($name: self.$name.clone(),)+ $($own: None,)* }
            }
        }

        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        $(#[$defaults_meta])*
        pub struct $Defaults {
            $(
                $(#[doc = $doc])+
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $name: Option<$type>,
            )+
            $(
                $(#[$own_meta])+
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $own: Option<$own_type>,
            )*
        }

        impl $Defaults {
            /// The defaults of EditMGT's inference script, for the options that do not depend on
            /// the model.
            pub fn official() -> Self {
                Self { $($name: $default,)+ $($own: None,)* }
            }

            /// These options, and those of `other` where these say nothing.
            #[must_use]
            pub fn or(self, other: Self) -> Self {
                Self {
                    $($name: self.$name.or(other.$name),)+
                    $($own: self.$own.or(other.$own),)*
                }
            }

            /// The first option that is out of range: its name, what was expected, what came.
            pub(super) fn out_of_range(&self) -> Option<(&'static str, &'static str, String)> {
                $(
                    let valid: fn(&$type) -> bool = $valid;
                    if let Some(value) = self.$name.as_ref().filter(|value| !valid(value)) {
                        let got = OptionText::to_text(value);
                        let got = if got.trim().is_empty() { "nothing".to_owned() } else { got };
                        return Some((stringify!($name), $expected, got));
                    }
                )+
                None
            }
        }

        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        $(#[$settings_meta])*
        pub struct $Settings {
            $(#[doc = $words_doc])+
            pub $words: String,
            $(
                $(#[doc = $doc])+
                pub $name: $type,
            )+
            $(
                $(#[doc = $plain_doc])+
                pub $plain: $plain_type,
            )+
        }

        impl $Settings {
            /// All options, in order: their names, and the texts that the request's `set` reads as
            /// their values.
            pub fn texts(&self) -> Vec<(&'static str, String)> {
                vec![
                    $((stringify!($name), OptionText::to_text(&self.$name)),)+
                    $((stringify!($plain), OptionText::to_text(&self.$plain)),)+
                ]
            }
        }

        impl TryFrom<$Request> for $Settings {
            type Error = EditError;

            /// The request with the official defaults.
            ///
            /// # Errors
            /// [`EditError::Option`] for an option that depends on the model and is not set.
            fn try_from(request: $Request) -> Result<Self, EditError> {
                let all = request.said().or($Defaults::official());
                Ok(Self {
                    $words: request.$words,
                    $($name: all.$name.ok_or_else(|| {
                        EditError::option(stringify!($name), $expected, "nothing")
                    })?,)+
                    $($plain: request.$plain,)+
                })
            }
        }

        impl From<$Settings> for $Request {
            fn from(settings: $Settings) -> Self {
                Self {
                    $words: settings.$words,
                    $($extra: Default::default(),)*
                    $($name: Some(settings.$name),)+
                    $($plain: settings.$plain,)+
                }
                .without_unread_options()
            }
        }
    };
}

/// Adds the options that every kind of request has to a table: what the loop and its noise are.
macro_rules! with_loop_options {
    ($table:ident! { $($head:tt)* } model { $($model:tt)* } plain { $($plain:tt)* }) => {
        $table! {
            $($head)*
            model {
                /// What to steer away from. Read when `guidance_scale` is above 1.
                negative_prompt: String;
                "any words", |_| true;
                default Some(DEFAULT_NEGATIVE_PROMPT.to_owned());
                /// Number of steps, 1 to 4096.
                steps: usize;
                "1 to 4096", |steps| (1..=MAX_STEPS).contains(steps);
                default Some(36);
                /// Classifier-free guidance, 0 to 100; 1 and below turns it off, which halves the
                /// work.
                guidance_scale: f32;
                "0 to 100", is_factor;
                default Some(6.0);
                /// The fraction of the run, 0 to 1 each, from which and until which guidance acts:
                /// step `i` of `n` is guided when its middle, `(i + 0.5) / n`, lies between. A step
                /// outside is half the work.
                guidance_interval: (f32, f32);
                "two fractions from 0 to 1, the lesser first", is_interval;
                default Some((0.0, 1.0));
                /// Weight of the Gumbel noise at the first and the last step, 0 to 100 each.
                temperature: (f32, f32);
                "0 to 100 each", |(first, last)| is_factor(first) && is_factor(last);
                default Some((2.0, 0.0));
                /// How the share of masked tokens decreases: `cosine` or `linear`.
                masking_schedule: MaskingSchedule;
                "cosine or linear", |_| true;
                default Some(MaskingSchedule::Cosine);
                $($model)*
            }
            plain {
                $($plain)*
                /// Same seed, same result.
                seed: u64;
                "0 to 2^64 - 1", |_| true;
                default 0;
                /// Which of the results of this seed it is, below 2^32; 0 is the first. Each has
                /// noise of its own.
                variation: u32;
                "0 to 2^32 - 1", |_| true;
                default 0;
                /// Whether to run a model at a task that it was not trained for.
                anyway: bool;
                "true or false", |_| true;
                default false;
            }
        }
    };
}
