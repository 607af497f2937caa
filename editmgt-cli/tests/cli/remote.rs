//! `editmgt edit --server`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::program::{CAT, Ran, Scratch, command, finish, root};
use crate::serve::Serve;

const INSTRUCTION: &str = "make the red car blue";

fn scene() -> PathBuf {
    root().join("editmgt-server/scenes/scene.png")
}

fn server() -> Serve {
    Serve::start(|_| {})
}

fn url(server: &Serve) -> String {
    format!("http://{}", server.address)
}

/// An edit of a photo, here or on a server.
fn edit(photo: &Path, to: &Path, server: Option<&str>, options: &[&str]) -> Ran {
    finish(edit_command(photo, to, server, options))
}

fn edit_command(photo: &Path, to: &Path, server: Option<&str>, options: &[&str]) -> Command {
    let mut command = command();
    command.env_remove("EDITMGT_TOKEN").args(["edit", "-q"]);
    command.arg(photo).arg(INSTRUCTION).arg("-o").arg(to).args(options);
    if let Some(server) = server {
        command.args(["--server", server]);
    }
    command
}

/// Metrics of a server, by the beginning of their line.
fn metric(server: &Serve, name: &str) -> f64 {
    let text = server.get("/metrics", "");
    let line = text.lines().find(|line| line.starts_with(name));
    line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn remote_edit_leaves_the_files_of_a_local_one() {
    let server = server();
    let url = url(&server);
    let scratch = Scratch::new();
    let path = |name: &str| scratch.out(name).to_str().unwrap().to_owned();
    // White on the left half.
    let mask = scratch.path("mask.png");
    let half =
        image::GrayImage::from_fn(128, 128, |x, _| image::Luma([if x < 64 { 255 } else { 0 }]));
    half.save(&mask).unwrap();
    let mask = mask.to_str().unwrap();
    for (name, options) in [
        ("plain.png", &["--seed", "7"][..]),
        ("bare.png", &["--seed", "7", "--no-record"]),
        ("photo.jpg", &["--seed", "8", "--steps", "3"]),
        ("photo.bmp", &["--seed", "8", "--steps", "3"]),
        (
            "masked.png",
            &["--mask", mask, "--hold", "mask+auto", "--guidance", "1.1", "--keyword", "red car"],
        ),
        ("luma.png", &["--mask", mask, "--mask-reads", "luma", "--parity"]),
    ] {
        let mut both = Vec::new();
        for (folder, server) in [("local", None), ("remote", Some(&*url))] {
            let [result, map, report] =
                [name, "map.png", "report.json"].map(|file| path(&format!("{folder}-{file}")));
            let mut options = options.to_vec();
            options.extend(["--map", &map, "--report", &report]);
            let printed = edit(&scene(), Path::new(&result), server, &options).done();
            assert!(printed.starts_with(&format!("{result}: seed ")), "{printed}");
            assert!(printed.contains("% of tokens held"), "{printed}");
            both.push((
                fs::read(result).unwrap(),
                fs::read(map).unwrap(),
                json(Path::new(&report)),
            ));
        }
        let [local, remote] = &both[..] else { unreachable!() };
        assert!(local.0 == remote.0, "{name}: another result");
        assert!(local.1 == remote.1, "{name}: another map");
        for key in ["settings", "tokens_held", "pixels_kept", "model", "notes"] {
            assert_eq!(local.2[key], remote.2[key], "{name}: {key}");
        }
    }
    // A record is repeated on the server.
    let like = path("local-plain.png");
    for (name, server) in [("again-local.png", None), ("again-remote.png", Some(&*url))] {
        edit(&scene(), &scratch.out(name), server, &["--like", &like]).done();
    }
    let read = |name: &str| fs::read(scratch.out(name)).unwrap();
    assert!(read("again-local.png") == read("again-remote.png"));
    // The server forgets the photos.
    assert_eq!(metric(&server, "editmgt_photos "), 0.0);
}

#[test]
fn variations_are_edits_of_one_upload() {
    let server = server();
    let scratch = Scratch::new();
    for (name, at) in [("local.png", None), ("remote.png", Some(url(&server)))] {
        edit(&scene(), &scratch.out(name), at.as_deref(), &["--variations", "2", "--seed", "3"])
            .done();
    }
    for i in [0, 1] {
        let read = |name: &str| fs::read(scratch.out(&format!("{name}-{i}.png"))).unwrap();
        assert!(read("local") == read("remote"), "variation {i}");
    }
    assert_eq!(metric(&server, "editmgt_edits_total{status=\"done\"}"), 2.0);
}

#[test]
fn refusals_are_those_of_a_local_edit() {
    let server = server();
    let url = url(&server);
    let scratch = Scratch::new();
    let to = scratch.out("x.png");
    let message = |ran: Ran| {
        assert_eq!(ran.status, Some(2), "{ran:?}");
        ran.stderr
    };
    let unknown = |server: Option<&str>| {
        let mut command = command();
        command.args(["edit", "-q"]).arg(scene()).arg("paint a zebra").arg("-o").arg(&to);
        command.args(server.iter().flat_map(|server| ["--server", server]));
        message(finish(command))
    };
    assert_eq!(unknown(Some(&url)), unknown(None));
    for options in [
        &["--blocks", "99"][..],
        &["--keyword", "zebra"],
        &["--hold", "mask+auto"],
        &["--report", "/nowhere/x.json"],
        &["--like", CAT],
        &["--mask", "/nowhere/mask.png"],
    ] {
        let [there, here] =
            [Some(&*url), None].map(|server| message(edit(&scene(), &to, server, options)));
        assert_eq!(there, here, "{options:?}");
    }
    let missing = edit(Path::new("/nowhere/photo.png"), &to, Some(&url), &[]);
    missing.refused("no photo", &["/nowhere/photo.png"]);
    scratch.assert_nothing_written("refusals");
    assert_eq!(metric(&server, "editmgt_photos "), 0.0);
}

#[test]
fn options_that_cannot_travel_are_refused_before_the_upload() {
    let scratch = Scratch::new();
    let to = scratch.out("x.png");
    // A port without a server.
    let server = "http://127.0.0.1:9";
    let refused = |options: &[&str], named: &[&str]| {
        edit(&scene(), &to, Some(server), options).refused(&options.join(" "), named);
    };
    refused(&["--keyword", "a, b"], &["keyword: ", "comma", "without --server"]);
    let folder = scratch.path("out");
    refused(&["--preview", folder.to_str().unwrap()], &["--preview: ", "where the model runs"]);
    for option in [&["--device", "cpu"][..], &["--model", "x"], &["--low-memory"]] {
        let ran = edit(&scene(), &to, Some(server), option);
        ran.misused(option[0], &["--server", option[0], "cannot be used with"]);
    }
    let mut outpaint = command();
    outpaint.arg("outpaint").arg(scene()).args(["a field", "--left", "16", "-o"]).arg(&to);
    outpaint.args(["--server", server]);
    finish(outpaint).refused("outpaint", &["outpaint: a server does not run it"]);
    edit(&scene(), &to, None, &["--token", "x"]).misused("a token alone", &["--server"]);
}

/// A server that answers every connection with these bytes.
fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _head = stream.read(&mut [0; 4096]);
            let _gone = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://{address}")
}

#[test]
fn addresses_without_a_server_of_ours_are_refused_by_name() {
    let scratch = Scratch::new();
    let to = scratch.out("x.png");
    let refused =
        |url: &str, named: &[&str]| edit(&scene(), &to, Some(url), &[]).refused(url, named);
    for url in ["127.0.0.1:8420", "ftp://host", "http://", "http://host:99999"] {
        refused(url, &["--server: expected http://HOST"]);
    }
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    refused(&closed, &[&closed, "no server answers there", "editmgt serve"]);
    let ours = "expected a server started by `editmgt serve`";
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: close\r\n\r\n{\"a\": \"json\"}",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ] {
        refused(&answering(answer), &[ours]);
    }
    refused(&answering("SSH-2.0-OpenSSH\r\n"), &["no server answers there"]);
    scratch.assert_nothing_written("other servers");
}

#[test]
fn token_is_needed_and_named_in_no_message() {
    const TOKEN: &str = "0123456789abcdef-secret";
    let server = Serve::start(|program| {
        program.env("EDITMGT_TOKEN", TOKEN);
    });
    let url = url(&server);
    let scratch = Scratch::new();
    let to = scratch.out("x.png");
    let refused = edit(&scene(), &to, Some(&url), &[]);
    refused
        .refused("no token", &["refuses the request without a token", "--token", "EDITMGT_TOKEN"]);
    let refused = edit(&scene(), &to, Some(&url), &["--token", "fedcba9876543210-other"]);
    refused.refused("another token", &["refuses the token"]);
    assert!(!refused.stderr.contains("other"), "{refused:?}");
    edit(&scene(), &to, Some(&url), &["--token", TOKEN]).done();
    edit(&scene(), &to, Some(&format!("{url}/#token={TOKEN}")), &[]).done();
    let mut by_environment = edit_command(&scene(), &to, Some(&url), &[]);
    by_environment.env("EDITMGT_TOKEN", TOKEN);
    finish(by_environment).done();
}

#[test]
fn photo_over_the_limit_of_the_server_is_refused_before_the_upload() {
    let server = Serve::start(|program| {
        program.args(["--max-file", "1", "--max-megapixels", "1"]);
    });
    let scratch = Scratch::new();
    let to = scratch.out("x.png");
    let noise = |x: u32, y: u32| {
        let hash = x.wrapping_mul(0x9e37_79b1) ^ y.wrapping_mul(0x85eb_ca6b);
        image::Rgb(
            (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35).to_le_bytes()[..3].try_into().unwrap(),
        )
    };
    let large = scratch.path("large.png");
    image::RgbImage::from_fn(900, 900, noise).save(&large).unwrap();
    assert!(fs::metadata(&large).unwrap().len() > 1 << 20);
    let refused = edit(&large, &to, Some(&url(&server)), &[]);
    refused.refused("a large file", &["photo: ", "1048576", "--max-file"]);
    let wide = scratch.path("wide.png");
    image::RgbImage::new(1200, 1200).save(&wide).unwrap();
    let refused = edit(&wide, &to, Some(&url(&server)), &[]);
    refused.refused("a large image", &["photo: ", "1000000 pixels"]);
    scratch.assert_nothing_written("large photos");
}

/// Passes connections on to a server, and breaks the first stream of events off in its middle.
fn unreliable(server: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = server.to_owned();
    std::thread::spawn(move || {
        let is_broken = std::sync::Arc::new(AtomicBool::new(false));
        for stream in listener.incoming() {
            let (server, is_broken) = (server.clone(), is_broken.clone());
            std::thread::spawn(move || {
                let mut client = stream.unwrap();
                let mut server = TcpStream::connect(server).unwrap();
                let mut head = [0; 1 << 16];
                let n = client.read(&mut head).unwrap();
                let breaks = String::from_utf8_lossy(&head[..n]).contains("/events ")
                    && !is_broken.swap(true, Ordering::SeqCst);
                server.write_all(&head[..n]).unwrap();
                let (mut up, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut up, &mut to));
                if breaks {
                    let mut part = [0; 200];
                    server.read_exact(&mut part).unwrap();
                    client.write_all(&part).unwrap();
                    client.shutdown(Shutdown::Both).unwrap();
                } else {
                    let _gone = std::io::copy(&mut server, &mut client);
                    let _gone = client.shutdown(Shutdown::Both);
                }
            });
        }
    });
    format!("http://{address}")
}

#[test]
fn broken_stream_is_opened_again() {
    let server = server();
    let scratch = Scratch::new();
    let options = ["--seed", "7", "--steps", "40"];
    edit(&scene(), &scratch.out("local.png"), None, &options).done();
    let between = unreliable(&server.address);
    edit(&scene(), &scratch.out("remote.png"), Some(&between), &options).done();
    assert!(
        fs::read(scratch.out("local.png")).unwrap() == fs::read(scratch.out("remote.png")).unwrap()
    );
    assert_eq!(metric(&server, "editmgt_edits_total{status=\"done\"}"), 1.0);
}

/// Starts an edit of many steps on a server, and waits for the first of them.
fn long_edit(
    server: &Serve,
    to: &Path,
) -> (std::process::Child, BufReader<std::process::ChildStderr>) {
    let mut command = command();
    command.arg("edit").arg(scene()).arg(INSTRUCTION).arg("-o").arg(to).args(["--steps", "250"]);
    command.args(["--server", &url(server)]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("step ") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended");
    }
    (child, lines)
}

#[test]
#[cfg(unix)]
fn ctrl_c_stops_the_edit_on_the_server() {
    let server = server();
    let scratch = Scratch::new();
    let (mut child, mut lines) = long_edit(&server, &scratch.out("x.png"));
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("of 250 steps"), "{rest}");
    scratch.assert_nothing_written("an interrupted edit");
    assert_eq!(metric(&server, "editmgt_edits_total{status=\"stopped\"}"), 1.0);
    assert_eq!(metric(&server, "editmgt_photos "), 0.0);
}

#[test]
fn server_that_vanishes_is_an_error_in_one_line() {
    let server = server();
    let scratch = Scratch::new();
    let (mut child, mut lines) = long_edit(&server, &scratch.out("x.png"));
    drop(server);
    assert_eq!(child.wait().unwrap().code(), Some(2));
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    let last = rest.lines().last().unwrap();
    assert!(last.starts_with("editmgt: ") && last.contains("connection was lost"), "{rest}");
    scratch.assert_nothing_written("a lost edit");
}
