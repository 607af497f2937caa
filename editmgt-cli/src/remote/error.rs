use std::time::Duration;

/// Why an edit on a server fails, beside the reasons of an edit here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum RemoteError {
    /// Not an address of a server.
    #[error("--server: expected http://HOST[:PORT] or https://HOST[:PORT], got {got:?}{problem}")]
    Url { got: String, problem: &'static str },
    /// A token that no header can carry.
    #[error("--token: expected visible ASCII characters, got another one")]
    Token,
    /// An option that has no meaning, or no form, in a request.
    #[error("{option}: {why}; leave it out, or edit here without --server")]
    Option { option: String, why: String },
    /// Nothing answers there.
    #[error("{url}: no server answers there: {cause}; is `editmgt serve` running?")]
    Connect { url: String, cause: String },
    /// Another program answers there.
    #[error("{url}: expected a server started by `editmgt serve`, got {got}")]
    NotOurs { url: String, got: String },
    /// The server wants another token.
    #[error(
        "{url}: the server refuses the {}; give the one that it was started with as --token or EDITMGT_TOKEN",
        if *given { "token" } else { "request without a token" }
    )]
    Unauthorized { url: String, given: bool },
    /// The server accepts smaller files only.
    #[error(
        "{what}: {bytes} bytes, the server's limit is {limit}; make it smaller, or raise the server's --max-file"
    )]
    TooLarge { what: &'static str, bytes: u64, limit: u64 },
    /// The server refuses the edit, or it failed there. The message is the library's own.
    #[error("{message}")]
    Refused { message: String },
    /// The server's queue stays full.
    #[error("{url}: the server's queue is full; gave up after {} s", waited.as_secs())]
    Busy { url: String, waited: Duration },
    /// The connection broke, and can't be made again.
    #[error("{url}: the connection was lost in the middle of the edit: {cause}")]
    Lost { url: String, cause: String },
    /// The server stopped the edit by itself.
    #[error(
        "{url}: the server stopped the edit after {completed} of {total} steps; it may be shutting down"
    )]
    Stopped { url: String, completed: u64, total: u64 },
}
