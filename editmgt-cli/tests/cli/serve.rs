//! `editmgt serve`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use crate::program::{command, editmgt};

/// A server that is killed when a test ends early.
pub(crate) struct Serve {
    child: Child,
    /// Host and port.
    pub(crate) address: String,
}

impl Serve {
    pub(crate) fn start(change: impl FnOnce(&mut Command)) -> Self {
        let mut program = command();
        program.args(["serve", "--port", "0", "--log", "json"]);
        change(&mut program);
        let mut child =
            program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program");
        let mut line = String::new();
        let out = child.stdout.as_mut().expect("piped");
        BufReader::new(out).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("http://").unwrap_or_else(|| panic!("{line:?}"));
        Self { address: address.trim_end_matches('/').to_owned(), child }
    }

    pub(crate) fn get(&self, path: &str, header: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n{header}\r\n", self.address);
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

#[test]
#[cfg(unix)]
fn prints_its_address_answers_and_ends_with_ctrl_c() {
    let mut server = Serve::start(|_| {});
    let answer = server.get("/health", "");
    assert!(answer.starts_with("HTTP/1.0 200") && answer.contains("\"ok\""), "{answer}");
    let answer = server.get("/", "");
    assert!(answer.contains("<!doctype html>"), "{answer}");
    let sent =
        Command::new("kill").args(["-INT", &server.child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn token_of_the_environment_is_needed_and_not_printed() {
    const TOKEN: &str = "0123456789abcdef-secret";
    let server = Serve::start(|program| {
        program.env("EDITMGT_TOKEN", TOKEN);
    });
    assert!(!server.address.contains('#'), "{}", server.address);
    assert!(server.get("/api/model", "").starts_with("HTTP/1.0 401"));
    let header = format!("Authorization: Bearer {TOKEN}\r\n");
    assert!(server.get("/api/model", &header).starts_with("HTTP/1.0 200"));
}

#[test]
fn addresses_of_other_machines_need_a_token() {
    let refused = editmgt(["serve", "--address", "0.0.0.0", "--port", "0"]);
    refused.refused("no token", &["0.0.0.0:0", "--token", "EDITMGT_TOKEN", "127.0.0.1"]);
    let short = editmgt(["serve", "--token", "short"]);
    short.refused("a short token", &["token", "at least 16"]);
}
