//! What a server is started with.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::models::ServedModel;

/// How a server listens, what it accepts and how long it keeps it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerOptions {
    /// The address to listen on; 127.0.0.1, port 8420 by default. Port 0 takes a free port. An
    /// address that other machines reach needs a token.
    pub address: SocketAddr,
    /// Requests must carry it (`Authorization: Bearer TOKEN`). At least 16 characters.
    pub token: Option<String>,
    /// Names, beside `localhost` and addresses, by which clients may name this server in `Host`.
    pub host_names: Vec<String>,
    /// Name of the model for clients, not a path.
    /// [`Server::start_models`](crate::Server::start_models) does not read it.
    pub model_name: String,
    /// The model's argument in commands to copy (`--model NAME`); `None` for the embedded model.
    /// Not read by [`Server::start_models`](crate::Server::start_models).
    pub model_argument: Option<String>,
    /// Most bytes of the weights of loaded models; the least recently used are unloaded. By default
    /// all that were used stay loaded.
    pub memory_budget: Option<u64>,
    /// What is accepted.
    pub limits: ServerLimits,
    /// How long photos and their edits are kept after they were last used; an hour by default.
    pub keep: Duration,
    /// A folder for uploaded photos, their masks and results, which then survive the program;
    /// created if needed. By default they are in memory only.
    pub data: Option<PathBuf>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 8420)),
            token: None,
            host_names: Vec::new(),
            model_name: "embedded".to_owned(),
            model_argument: None,
            memory_budget: None,
            limits: ServerLimits::default(),
            keep: Duration::from_secs(3600),
            data: None,
        }
    }
}

/// Limits of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLimits {
    /// Longest file of a photo or mask, bytes; 32 MiB by default.
    pub photo_bytes: usize,
    /// Most millions of pixels of a photo or mask; 64 by default.
    pub photo_megapixels: u64,
    /// Largest ratio of a photo's sides; 32 by default.
    pub photo_ratio: u64,
    /// Longest instruction and negative prompt, characters; 2,000 by default.
    pub instruction_characters: usize,
    /// Most steps of an edit; 256 by default.
    pub steps: usize,
    /// Largest side of a square as large as the model's image, pixels; 2,048 by default.
    pub size: usize,
    /// Most edits that run or wait; 8 by default.
    pub queue: usize,
    /// Most variations of a request; 8 by default.
    pub variations: u32,
    /// Longest run of an edit; 30 minutes by default.
    pub edit_time: Duration,
    /// Most connections; 256 by default. One more closes the one that has idled the longest, and
    /// waits where none does.
    pub connections: usize,
    /// Longest pause between two parts of a request; 10 seconds by default.
    pub pause: Duration,
    /// Longest pause in which a client takes nothing of its answer; 30 seconds by default.
    pub answer_pause: Duration,
    /// Longest time for the whole of a request; two minutes by default.
    pub request_time: Duration,
    /// Most photos that are kept; 64 by default.
    pub photos: usize,
    /// Most edits that are kept; 512 by default.
    pub edits: usize,
    /// Most bytes of photos, masks and results that are kept; 2 GiB by default.
    pub kept_bytes: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            photo_bytes: 32 << 20,
            photo_megapixels: 64,
            photo_ratio: 32,
            instruction_characters: 2000,
            steps: 256,
            size: 2048,
            queue: 8,
            variations: 8,
            edit_time: Duration::from_secs(30 * 60),
            connections: 256,
            pause: Duration::from_secs(10),
            answer_pause: Duration::from_secs(30),
            request_time: Duration::from_secs(120),
            photos: 64,
            edits: 512,
            kept_bytes: 2 << 30,
        }
    }
}

/// Fewest characters of a token.
const TOKEN_CHARACTERS: usize = 16;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// An address that other machines reach, without a token.
    #[error(
        "{address} can be reached from other machines: expected a token that requests must carry, got none; \
         set --token or EDITMGT_TOKEN, or listen on 127.0.0.1"
    )]
    TokenNeeded {
        /// The address.
        address: SocketAddr,
    },
    /// A token that is too short or that no header can carry.
    #[error("token: expected at least {TOKEN_CHARACTERS} visible ASCII characters, got {got}")]
    Token {
        /// What is wrong with it.
        got: String,
    },
    /// The address is taken or not one of this machine.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        cause: std::io::Error,
    },
    /// No models, or two of one name.
    #[error("models: expected at least one, each with its own name, got {got}")]
    Models {
        /// What is wrong with them.
        got: String,
    },
    /// A model that never fits.
    #[error(
        "the model {name:?} has {bytes} bytes of weights, the memory budget is {budget}: expected a larger --memory-budget \
         or a smaller model"
    )]
    ModelTooLarge {
        /// Its name.
        name: String,
        /// Its size.
        bytes: u64,
        /// [`ServerOptions::memory_budget`].
        budget: u64,
    },
    /// The folder for photos and results can't be used.
    #[error(transparent)]
    Data(#[from] editmgt_store::StoreError),
    /// A model that is needed at the start can't be loaded.
    #[error(transparent)]
    Load(#[from] Box<editmgt::EditError>),
    /// A thread can't be started.
    #[error("cannot start the server's threads: {cause}")]
    Threads {
        /// The system's reason.
        cause: std::io::Error,
    },
}

impl ServerOptions {
    /// Checks names and sizes of models.
    ///
    /// # Errors
    /// [`ServerError::Models`], [`ServerError::ModelTooLarge`].
    pub(crate) fn check_models(&self, models: &[ServedModel]) -> Result<(), ServerError> {
        if models.is_empty() {
            return Err(ServerError::Models { got: "none".into() });
        }
        for (i, model) in models.iter().enumerate() {
            let name = model.name();
            if models[..i].iter().any(|other| other.name() == name) {
                return Err(ServerError::Models { got: format!("{name:?} twice") });
            }
            if let Some(budget) = self.memory_budget.filter(|&budget| model.bytes() > budget) {
                let (name, bytes) = (name.to_owned(), model.bytes());
                return Err(ServerError::ModelTooLarge { name, bytes, budget });
            }
        }
        Ok(())
    }

    /// Checks address and token.
    ///
    /// # Errors
    /// [`ServerError::TokenNeeded`], [`ServerError::Token`].
    pub fn check(&self) -> Result<(), ServerError> {
        let Some(token) = &self.token else {
            let address = self.address;
            return if address.ip().is_loopback() {
                Ok(())
            } else {
                Err(ServerError::TokenNeeded { address })
            };
        };
        // The token itself is a secret that no message repeats.
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ServerError::Token { got: "another character".into() });
        }
        if token.len() < TOKEN_CHARACTERS {
            return Err(ServerError::Token { got: token.len().to_string() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_of_other_machines_needs_a_token() {
        let mut options = ServerOptions::default();
        options.check().unwrap();
        options.address = "0.0.0.0:8420".parse().unwrap();
        assert!(matches!(options.check(), Err(ServerError::TokenNeeded { .. })));
        options.token = Some("short".into());
        let message = options.check().unwrap_err().to_string();
        assert!(message.ends_with("got 5") && !message.contains("short"), "{message}");
        options.token = Some("0123456789 abcdef".into());
        assert!(matches!(options.check(), Err(ServerError::Token { .. })));
        options.token = Some("0123456789abcdef".into());
        options.check().unwrap();
        options.address = "[::1]:0".parse().unwrap();
        options.token = None;
        options.check().unwrap();
    }
}
