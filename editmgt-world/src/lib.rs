//! Synthetic worlds whose edits have exact ground truth, a judge of edited images, and trials of an
//! editor.
//!
//! Objects stand on a background; an instruction from a small grammar requests a change; the scene
//! after is a function of the scene before and the instruction, and images are functions of scenes.
//! Training gets the true edit, the true mask and the phrase that names the target; evaluation can
//! tell success from failure ([`World::judge`]).
//!
//! There are two worlds: [`shapes`], flat shapes on plain backgrounds, and [`sprites`], drawn
//! objects in scenery. [`World`] is either, by its [`WorldConfig`].
//!
//! ```
//! use editmgt_world::{Split, World, WorldConfig};
//!
//! let world = World::new(WorldConfig::second())?;
//! let example = world.pair(Split::Train, 0);
//! println!("{}", example.pair.instruction);
//! assert!(world.judge(&example, &example.pair.after)?.success);
//! assert!(!world.judge(&example, &example.pair.before)?.success);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Splits
//! Training, validation and test have separate random streams, and, since a world can be small
//! enough for one scene to be drawn twice, separate scenes: the fingerprint of the scene before
//! determines its split, whatever the seed (six, one and one eighths). So no image edited in the
//! test was ever edited in training. It may have been the result of a training edit.
//!
//! # Features
#![doc = document_features::document_features!()]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

#[macro_use]
mod named;

mod draws;
mod fingerprint;
mod judge;
mod metrics;
mod pair;
mod random;
pub mod shapes;
mod sheet;
mod split;
pub mod sprites;
mod trial;
mod window;
mod world;

pub use draws::{Draws, Stream, fnv1a};
pub use judge::Judgement;
pub use metrics::Metrics;
pub use pair::{Category, EditPair};
pub use sheet::contact_sheet;
pub use split::Split;
pub use trial::{
    Trial, TrialMeans, TrialSummary, auc, decibels, round_trip, touched, trial,
    trial_with_oracle_mask,
};
pub use world::{Example, Scene, Truth, World, WorldConfig};
