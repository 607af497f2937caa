//! Photos and results in a folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use editmgt::Photo;
use editmgt_server::{Server, ServerError, ServerOptions};
use serde_json::{Value, json};

use super::{INSTRUCTION, SCENE, assert_error, editor, metric, start, start_edit, upload};
use crate::client::Client;
use crate::limits::until;

/// A folder that is removed when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("server-data-{name}"));
        let _none_before = std::fs::remove_dir_all(&folder);
        Self(folder)
    }

    fn start(&self, change: impl FnOnce(&mut ServerOptions)) -> (Server, Client) {
        start(|options| {
            options.data = Some(self.0.clone());
            change(options);
        })
    }

    /// The folders of photos.
    fn photos(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.0.join("photos")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

fn done(client: &Client, body: &Value) -> Value {
    let edit = start_edit(client, body);
    let last = client.events(&edit).last().unwrap();
    assert_eq!(last.name, "done", "{}", last.data);
    let written = || client.get(&format!("/api/edits/{edit}")).json();
    assert_eq!(written(), last.data);
    last.data
}

/// Previews are in memory only.
fn without_preview(mut view: Value) -> Value {
    if let Some(preview) = view.get_mut("preview") {
        *preview = json!(false);
    }
    view
}

/// What a client can get of an edit.
fn all_of(client: &Client, edit: &Value) -> Vec<Value> {
    let id = edit["id"].as_str().unwrap();
    let parts = ["", "/result", "/result?format=jpeg", "/map", "/record", "/report", "/code"];
    let get = |part| client.get(&format!("/api/edits/{id}{part}")).body;
    let value = |body: Vec<u8>| serde_json::from_slice(&body).unwrap_or_else(|_| json!(body));
    parts.map(|part| without_preview(value(get(part)))).into()
}

#[test]
fn photos_masks_and_results_survive_the_program() {
    let folder = Folder::new("survive");
    let (server, client) = folder.start(|_| {});
    let photo = upload(&client);
    let mask = client.post(&format!("/api/photos/{photo}/masks"), "image/png", SCENE);
    let mask = mask.json()["id"].as_str().unwrap().to_owned();
    let first = done(
        &client,
        &json!({"photo": photo, "instruction": INSTRUCTION, "options": {"seed": "7"}}),
    );
    let masked = json!({
        "photo": photo, "instruction": "change the background to a beach", "mask": mask, "base": first["id"],
        "options": {"hold": "mask"},
    });
    let second = done(&client, &masked);
    let wide = json!({"photo": photo, "instruction": "a red car", "options": {"task": "outpaint:8,0,0,0", "steps": 1}});
    let wide = done(&client, &wide);
    let look =
        start_edit(&client, &json!({"photo": photo, "instruction": INSTRUCTION, "look": true}));
    client.events(&look).for_each(drop);
    // What is answered with the image is in memory only.
    let files = [("image", "scene.png", SCENE)];
    let url = [("prompt", INSTRUCTION), ("response_format", "url")];
    assert_eq!(client.post_form("/v1/images/edits", &files, &url).status, 200);
    let edits = [first, second, wide];
    let before = edits.each_ref().map(|edit| all_of(&client, edit));
    let mask_before = client.get(&format!("/api/masks/{mask}")).body;
    assert_eq!(folder.photos().len(), 1);

    let mut options = ServerOptions::default();
    options.address = "127.0.0.1:0".parse().unwrap();
    options.data = Some(folder.0.clone());
    let locked = Server::start(editor(), options).err();
    assert!(matches!(locked, Some(ServerError::Data(_))), "{locked:?}");
    server.stop();

    let (_server, client) = folder.start(|_| {});
    let view = client.get(&format!("/api/photos/{photo}")).json();
    assert_eq!(view["name"], "scene.png");
    let expected = edits.clone().map(without_preview);
    assert_eq!(view["edits"], json!(expected), "the look is gone");
    assert_eq!(edits.each_ref().map(|edit| all_of(&client, edit)), before);
    assert_eq!(client.get(&format!("/api/masks/{mask}")).body, mask_before);
    let maps = client.post_json("/api/maps", &json!({"edit": edits[0]["id"]}));
    assert_error(&maps, 409, "no_maps", None);
    // A result of the earlier run is edited; the same edit gives the same again.
    let again = done(&client, &masked);
    let png = |edit: &Value| {
        client.get(&format!("/api/edits/{}/result", edit["id"].as_str().unwrap())).body
    };
    let rgb = |edit: &Value| Photo::from_bytes(&png(edit)).unwrap().into_dynamic().into_rgb8();
    assert_eq!(rgb(&again), rgb(&edits[1]));
    assert_eq!(client.request("DELETE", &format!("/api/photos/{photo}"), "", b"").status, 204);
    assert_eq!(folder.photos(), Vec::<PathBuf>::new());
}

#[test]
fn folder_is_bounded_in_number_and_age_and_damage_is_ignored() {
    let folder = Folder::new("bounded");
    let (server, client) = folder.start(|options| options.limits.photos = 2);
    let photos: Vec<_> = (0..3).map(|_| upload(&client)).collect();
    assert_eq!(folder.photos().len(), 2);
    assert!(
        !folder.0.join("photos").join(&photos[0]).exists(),
        "the least recently used goes first"
    );
    let edit = done(&client, &json!({"photo": photos[2], "instruction": INSTRUCTION}));
    server.stop();
    // One edit lost a file, one photo was not finished, one name is no id.
    let of = |photo: &str| folder.0.join("photos").join(photo);
    let id = edit["id"].as_str().unwrap();
    std::fs::remove_file(of(&photos[2]).join("edits").join(id).join("map.png")).unwrap();
    std::fs::remove_file(of(&photos[1]).join("photo.json")).unwrap();
    std::fs::create_dir(of("no-id")).unwrap();
    std::fs::write(of("no-id").join("photo"), SCENE).unwrap();
    std::fs::write(of(&photos[2]).join("masks/.editmgt-x.tmp"), b"half").unwrap();
    let (server, client) = folder.start(|_| {});
    assert_eq!(metric(&client, "editmgt_photos"), 1.0);
    assert_eq!(client.get(&format!("/api/photos/{}", photos[1])).status, 404);
    let view = client.get(&format!("/api/photos/{}", photos[2])).json();
    assert_eq!(view["edits"], json!([]));
    assert_eq!(folder.photos().len(), 3, "nothing foreign is removed");
    // The numbers hold for what an earlier run left.
    let last = upload(&client);
    server.stop();
    let (server, client) = folder.start(|options| options.limits.photos = 1);
    assert_eq!(metric(&client, "editmgt_photos"), 1.0);
    assert_eq!(client.get(&format!("/api/photos/{last}")).status, 200);
    assert!(!of(&photos[2]).exists());
    server.stop();
    // So does the number of bytes.
    let (server, client) = folder.start(|options| options.limits.kept_bytes = 1000);
    assert_eq!(metric(&client, "editmgt_photos"), 0.0);
    assert!(!of(&last).exists());
    server.stop();
    let (server, client) = folder.start(|_| {});
    upload(&client);
    server.stop();
    std::thread::sleep(Duration::from_millis(300));
    let (_server, client) = folder.start(|options| options.keep = Duration::from_millis(200));
    assert_eq!(metric(&client, "editmgt_photos"), 0.0);
    assert_eq!(folder.photos(), [of("no-id")], "an unfinished photo expires, too");
    upload(&client);
    until(|| metric(&client, "editmgt_photos") == 0.0);
    assert_eq!(folder.photos(), [of("no-id")]);
    assert_eq!(std::fs::read(of("no-id").join("photo")).unwrap(), SCENE);
}

#[cfg(unix)]
#[test]
fn only_the_user_may_read_the_photos() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::new("private");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (server, client) = folder.start(|_| {});
    let photo = folder.0.join("photos").join(upload(&client));
    for path in [&folder.0, &folder.0.join("photos"), &photo, &photo.join("edits")] {
        assert_eq!(mode(path), 0o700, "{}", path.display());
    }
    server.stop();
    let photos = folder.0.join("photos");
    std::fs::set_permissions(&photos, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (_server, _client) = folder.start(|_| {});
    assert_eq!(mode(&photos), 0o700);
}
