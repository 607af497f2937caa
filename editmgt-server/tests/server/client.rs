//! A small HTTP client that can also misbehave.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Client {
    address: SocketAddr,
    headers: Vec<(String, String)>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// A server-sent event.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: Value,
}

/// Events as they come.
pub(crate) struct Events(BufReader<TcpStream>);

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let (mut name, mut data) = (None, None);
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some(text) = line.strip_prefix("event: ") {
                name = Some(text.trim_end().to_owned());
            } else if let Some(text) = line.strip_prefix("data: ") {
                data = Some(serde_json::from_str(text.trim_end()).unwrap());
            } else if line.trim_end().is_empty()
                && let (Some(name), Some(data)) = (name.take(), data.take())
            {
                return Some(Event { name, data });
            }
        }
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, headers: vec![("Host".into(), address.to_string())] }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same with a header in place of one of that name.
    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let others = self.headers.iter().filter(|(other, _)| other != name).cloned();
        let headers = others.chain([(name.to_owned(), value.to_owned())]).collect();
        Self { headers, ..*self }
    }

    /// Sends a request and leaves the connection open. HTTP/1.0, so that bodies end with the
    /// connection.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> TcpStream {
        let mut head = format!("{method} {path} HTTP/1.0\r\n");
        let own = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in own.chain(headers.iter().copied()) {
            head += &format!("{name}: {value}\r\n");
        }
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(b"\r\n").unwrap();
        // A server that refuses a body closes the connection before all of it is sent.
        let _refused = stream.write_all(body);
        stream
    }

    pub(crate) fn request(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Answer {
        let length = body.len().to_string();
        let headers = [("Content-Type", kind), ("Content-Length", &*length)];
        let headers = if method == "GET" { &[][..] } else { &headers[..] };
        read(&mut BufReader::new(self.send(method, path, headers, body)))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "", b"")
    }

    pub(crate) fn post(&self, path: &str, kind: &str, body: &[u8]) -> Answer {
        self.request("POST", path, kind, body)
    }

    pub(crate) fn post_json(&self, path: &str, body: &Value) -> Answer {
        self.post(path, "application/json; charset=utf-8", body.to_string().as_bytes())
    }

    /// The events of an edit.
    pub(crate) fn events(&self, edit: &str) -> Events {
        self.stream("GET", &format!("/api/edits/{edit}/events"), &[], b"")
    }

    pub(crate) fn stream(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Events {
        let mut reader = BufReader::new(self.send(method, path, headers, body));
        let head = read_head(&mut reader);
        assert_eq!(head.status, 200, "{path}");
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        Events(reader)
    }

    /// Posts a form of files (name, file name, bytes) and texts.
    pub(crate) fn post_form(
        &self,
        path: &str,
        files: &[(&str, &str, &[u8])],
        texts: &[(&str, &str)],
    ) -> Answer {
        let (kind, body) = form(files, texts);
        self.post(path, &kind, &body)
    }
}

/// A form: its content type and its body.
pub(crate) fn form(files: &[(&str, &str, &[u8])], texts: &[(&str, &str)]) -> (String, Vec<u8>) {
    const BOUNDARY: &str = "boundary-of-a-test";
    let mut body = Vec::new();
    for (name, text) in texts {
        let part = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n"
        );
        body.extend(part.as_bytes());
    }
    for (name, file, bytes) in files {
        let part = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\n\
             Content-Type: image/png\r\n\r\n"
        );
        body.extend(part.as_bytes());
        body.extend(*bytes);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{BOUNDARY}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={BOUNDARY}"), body)
}

fn read_head(reader: &mut impl BufRead) -> Answer {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status =
        line.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {line:?}")).parse().unwrap();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Answer { status, headers, body: Vec::new() }
}

/// Reads a whole answer.
pub(crate) fn read(reader: &mut impl BufRead) -> Answer {
    let mut answer = read_head(reader);
    reader.read_to_end(&mut answer.body).unwrap();
    answer
}
