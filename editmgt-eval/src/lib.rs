//! Evaluation of editing models.
//!
//! ```text
//! Suite (the world, pairs, GEdit-Bench) ──run──► Record, a line each ──► Summary: means, intervals
//!          │                                       │ RunStore: resumes,     Comparison: paired tests
//!          └──► Panels: images for inspection        │ in shards
//!                   └──rate──► scores by a vision-language model
//! ```
//!
//! ```
//! use editmgt_eval::metrics::Differences;
//! use image::{Rgb, RgbImage};
//!
//! let (black, grey) = (RgbImage::new(16, 16), RgbImage::from_pixel(16, 16, Rgb([51; 3])));
//! let difference = Differences::between(&grey, &black, None)?.whole;
//! assert!((difference.l1 - 0.2).abs() < 1e-12 && difference.changed == 1.0);
//! # Ok::<(), editmgt_eval::EvalError>(())
//! ```
//!
//! All results are functions of the model, the request and a seed: a repeated run writes the same
//! lines on the same machine, and edits are the same on every backend.
//!
//! # Features
#![doc = document_features::document_features!()]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod ablate;
mod ablation;
mod compare;
mod cost;
pub mod encoders;
mod error;
mod gedit;
mod lines;
pub mod metrics;
mod pairs;
mod panels;
mod plans;
mod plot;
mod rate;
mod record;
mod report;
mod statistics;
mod store;
mod suite;
mod summary;
mod world;

pub use ablate::{AblateInput, Ablated, Time, ablate};
pub use ablation::{ABLATION_NAMES, Ablation, Variation, ablations};
pub use compare::{Change, Comparison};
pub use cost::plot_costs;
pub use editmgt_store::Shard;
pub use error::EvalError;
pub use gedit::{GeditData, GeditSuite};
pub use pairs::PairsSuite;
pub use panels::Panels;
pub use plans::plot_plans;
pub use plot::{plot, plot_against, plotted};
pub use rate::{Answer, Endpoint, Rated, Scores, rate, rate_with};
pub use record::{Better, Record};
pub use report::{ReportOptions, report};
pub use statistics::{Estimate, sign_flip_test};
pub use store::{RunStore, read_records};
pub use suite::{Measured, Suite, run};
pub use summary::{COLUMNS, Row, Summary};
pub use world::WorldSuite;
