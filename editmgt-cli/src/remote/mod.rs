//! An edit on another machine: `--server URL`.
//!
//! The photo is read and checked here first, so that errors are the same; then it is uploaded,
//! edited, and forgotten there.

mod client;
mod error;
mod options;
mod run;

use std::error::Error as StdError;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use clap::Args;
use editmgt::image::{DynamicImage, ImageFormat};
use editmgt::{EditRequest, Mask};
use serde_json::Value;

use client::{Address, Client, Event, Started};
pub(crate) use error::RemoteError;
pub(crate) use run::RemoteRun;

use crate::progress::Progress;

/// The variable with the token.
const TOKEN: &str = "EDITMGT_TOKEN";
/// How often Ctrl-C is looked for.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a step may take that ends an edit which was cancelled.
const FAREWELL: Duration = Duration::from_secs(120);
/// How often a broken stream of events is opened again, and the pause before that.
const RETRIES: u32 = 5;
const RETRY: Duration = Duration::from_secs(1);
/// How long a full queue is waited for.
const QUEUE: Duration = Duration::from_secs(1800);
/// Longest wait before the queue is asked again.
const LONGEST_WAIT: u64 = 30;

#[derive(Args)]
pub(crate) struct ServerArgs {
    /// Edit on the server at this address, started by `editmgt serve`, with its model; the link
    /// that it prints is one
    #[arg(long, value_name = "URL", conflicts_with_all = COMPUTE)]
    server: Option<String>,
    /// Token of the server; other users of this machine can read arguments, so better set it as
    /// EDITMGT_TOKEN
    #[arg(long, value_name = "TOKEN", requires = "server")]
    token: Option<String>,
}

/// Options of the machine that computes.
const COMPUTE: [&str; 8] =
    ["model", "variant", "accept_unknown_keys", "lora", "device", "dtype", "compute", "low_memory"];

impl ServerArgs {
    /// The server; `None`: edit here.
    ///
    /// # Errors
    /// [`RemoteError::Url`], [`RemoteError::Token`].
    pub(crate) fn server(&self) -> Result<Option<Server>, RemoteError> {
        let Some(url) = &self.server else { return Ok(None) };
        let of_environment = || std::env::var(TOKEN).ok().filter(|token| !token.is_empty());
        let has_own = url.contains("#token=");
        let token = self.token.clone().or_else(|| of_environment().filter(|_| !has_own));
        let address = Address::new(url, token)?;
        Ok(Some(Server {
            is_open_to_others: address.is_open_to_others(),
            client: Client::new(address),
        }))
    }
}

/// A server to edit on.
pub(crate) struct Server {
    client: Client,
    is_open_to_others: bool,
}

/// A photo on a server. Dropped, it is forgotten there.
pub(crate) struct RemotePhoto<'a> {
    client: &'a Client,
    id: String,
    mask: Option<String>,
}

impl Drop for RemotePhoto<'_> {
    fn drop(&mut self) {
        self.client.forget(&self.id);
    }
}

/// How an edit ended.
pub(crate) enum Ended {
    /// With a result.
    Done(RemoteEdit),
    /// By Ctrl-C, after `completed` of `total` steps.
    Stopped { completed: u64, total: u64 },
}

/// An edit that is done, on the server.
pub(crate) struct RemoteEdit {
    id: String,
    /// Remarks.
    pub(crate) notes: Vec<String>,
    pub(crate) report: Value,
}

impl Server {
    /// Checks that a server of ours is there, and uploads a photo with its mask.
    ///
    /// # Errors
    /// [`RemoteError`]; the photo's file can't be read.
    pub(crate) fn open(
        &self,
        photo: &Path,
        mask: Option<&Mask>,
        progress: &Progress,
    ) -> Result<RemotePhoto<'_>, Box<dyn StdError>> {
        let client = &self.client;
        if self.is_open_to_others {
            let url = client.url();
            progress.note(&format!(
                "{url}: photo and token travel unencrypted; use https:// beyond your own network"
            ));
        }
        progress.show_stage("connecting");
        let model = client.model()?;
        let version = model["version"].as_str().unwrap_or_default();
        if version != env!("CARGO_PKG_VERSION") {
            progress.note(&format!("the server is editmgt {version}; results may differ"));
        }
        let bytes =
            std::fs::read(photo).map_err(|error| format!("{}: {error}", photo.display()))?;
        let limit = model["limits"]["photo_bytes"].as_u64().unwrap_or(u64::MAX);
        let check = |what, bytes: &[u8]| {
            let bytes = bytes.len() as u64;
            if bytes > limit { Err(RemoteError::TooLarge { what, bytes, limit }) } else { Ok(()) }
        };
        check("photo", &bytes)?;
        let mask = mask.map(mask_png).transpose()?;
        if let Some(mask) = &mask {
            check("mask", mask)?;
        }
        progress.show_stage("uploading photo");
        let id = client.id(&client.add_photo(&bytes)?)?;
        // From here on the photo is forgotten with every failure.
        let mut photo = RemotePhoto { client, id, mask: None };
        if let Some(mask) = mask {
            photo.mask = Some(client.add_mask(&photo.id, &mask)?);
        }
        Ok(photo)
    }

    /// The result as a file of this format.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub(crate) fn result(&self, edit: &RemoteEdit, format: &str) -> Result<Vec<u8>, RemoteError> {
        self.client.fetch(&edit.id, &format!("result?format={format}"))
    }

    /// The map of an edit as PNG.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub(crate) fn map(&self, edit: &RemoteEdit) -> Result<Vec<u8>, RemoteError> {
        self.client.fetch(&edit.id, "map")
    }
}

/// The levels of a mask as PNG: the same for every way to read a file.
fn mask_png(mask: &Mask) -> Result<Vec<u8>, Box<dyn StdError>> {
    let levels = DynamicImage::ImageLuma8(mask.levels(mask.size())?);
    let mut png = std::io::Cursor::new(Vec::new());
    levels.write_to(&mut png, ImageFormat::Png)?;
    Ok(png.into_inner())
}

/// What the thread that reads events says.
enum Heard {
    Event(Event),
    /// The stream broke off.
    Broken(RemoteError),
}

impl RemotePhoto<'_> {
    /// Runs an edit and waits for its end. Ctrl-C stops it there.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub(crate) fn edit(
        &self,
        request: &EditRequest,
        progress: &Progress,
    ) -> Result<Ended, RemoteError> {
        let options = options::texts(request)?;
        let client = self.client;
        let start = Instant::now();
        let edit = loop {
            match client.start(&self.id, self.mask.as_deref(), &request.instruction, &options)? {
                Started::Edit(id) => break id,
                Started::Full { seconds } => {
                    if start.elapsed() > QUEUE {
                        let (url, waited) = (client.url().to_owned(), start.elapsed());
                        return Err(RemoteError::Busy { url, waited });
                    }
                    progress.show_stage("waiting for a place");
                    let again =
                        Instant::now() + Duration::from_secs(seconds.clamp(1, LONGEST_WAIT));
                    while Instant::now() < again {
                        if progress.is_stopped() {
                            return Ok(Ended::Stopped { completed: 0, total: 0 });
                        }
                        std::thread::sleep(PAUSE);
                    }
                }
            }
        };
        let last = self.follow(&edit, progress)?;
        let (completed, total) = (number(&last.data, "completed"), number(&last.data, "total"));
        match &*last.name {
            "done" => {
                let notes = last.data["notes"].as_array().into_iter().flatten();
                let notes = notes.filter_map(Value::as_str).map(str::to_owned).collect();
                Ok(Ended::Done(RemoteEdit { id: edit, notes, report: last.data["report"].clone() }))
            }
            "stopped" if progress.is_stopped() => Ok(Ended::Stopped { completed, total }),
            "stopped" => {
                Err(RemoteError::Stopped { url: client.url().to_owned(), completed, total })
            }
            _ => {
                let message = last.data["error"]["message"].as_str();
                let message = message.unwrap_or("the edit failed on the server").to_owned();
                Err(RemoteError::Refused { message })
            }
        }
    }

    /// Shows the events of an edit; gives the last.
    fn follow(&self, edit: &str, progress: &Progress) -> Result<Event, RemoteError> {
        let (sender, heard) = mpsc::channel();
        let listen = || {
            let (client, edit, sender) = (self.client.clone(), edit.to_owned(), sender.clone());
            // It ends with the stream, with its pauses, or with the program.
            std::thread::spawn(move || {
                let take = |event| sender.send(Heard::Event(event)).is_ok();
                if let Err(error) = client.events(&edit, take) {
                    let _ended = sender.send(Heard::Broken(error));
                }
            });
        };
        listen();
        let (mut broken, mut cancelled) = (0, None::<Instant>);
        loop {
            match heard.recv_timeout(PAUSE) {
                Ok(Heard::Event(event)) => {
                    broken = 0;
                    if event.is_last() {
                        return Ok(event);
                    }
                    show(&event, progress);
                }
                Ok(Heard::Broken(error)) => {
                    broken += 1;
                    if broken > RETRIES || !matches!(error, RemoteError::Lost { .. }) {
                        return Err(error);
                    }
                    std::thread::sleep(RETRY);
                    listen();
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            match cancelled {
                None if progress.is_stopped() => {
                    cancelled = Some(Instant::now());
                    self.client.cancel(edit)?;
                }
                Some(since) if since.elapsed() > FAREWELL => {
                    let (url, cause) =
                        (self.client.url().to_owned(), "it does not stop".to_owned());
                    return Err(RemoteError::Lost { url, cause });
                }
                _ => {}
            }
        }
    }
}

fn number(data: &Value, key: &str) -> u64 {
    data[key].as_u64().unwrap_or_default()
}

fn show(event: &Event, progress: &Progress) {
    match (&*event.name, event.data["stage"].as_str(), event.data["state"].as_str()) {
        ("queued", ..) => {
            let before = number(&event.data, "position");
            progress.show_stage(&format!("waiting ({before} before)"));
        }
        ("stage", Some(stage), Some("started")) => progress.show_stage(match stage {
            "encode_text" => "encoding text",
            "encode_image" => "encoding photo",
            "sample" => "editing",
            "decode" => "decoding",
            _ => "working",
        }),
        ("step", ..) => {
            let (completed, total) =
                (number(&event.data, "completed"), number(&event.data, "total"));
            progress.step(completed as usize, total as usize);
        }
        _ => {}
    }
}
