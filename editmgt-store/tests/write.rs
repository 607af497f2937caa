//! Writing files and folders.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use editmgt_store::{PendingFile, StagedFolder, StoreError, check_writable, remove_stale, write};

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_file_appears_complete_and_replaces_an_earlier_one_with_its_permissions() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let plain = dir.path().join("plain");
    fs::write(&plain, "").unwrap();
    write(&path, "one").unwrap();
    assert_eq!(mode(&path), mode(&plain), "what the umask allows");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let mut file = PendingFile::create(&path).unwrap();
    std::io::Write::write_all(file.as_file_mut(), b"two").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"one");
    file.commit().unwrap();
    assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"two".to_vec(), 0o640));
    drop(PendingFile::create(&path).unwrap());
    check_writable(dir.path().join("new")).unwrap();
    assert_eq!(names(dir.path()), ["a", "plain"]);
}

#[test]
fn a_link_is_written_through() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("deep")).unwrap();
    fs::write(at("deep/file"), "old").unwrap();
    symlink("deep/file", at("one")).unwrap();
    symlink(at("one"), at("two")).unwrap();
    symlink("deep/new", at("dangling")).unwrap();
    write(at("two"), "new").unwrap();
    write(at("dangling"), "made").unwrap();
    assert_eq!(fs::read(at("deep/file")).unwrap(), b"new");
    assert_eq!(fs::read(at("deep/new")).unwrap(), b"made");
    for link in ["one", "two", "dangling"] {
        assert!(at(link).is_symlink(), "{link}");
    }
    assert_eq!(names(&at("deep")), ["file", "new"]);
}

#[test]
fn unwritable_outputs_are_refused_without_leftovers() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("folder")).unwrap();
    symlink("folder", at("to-folder")).unwrap();
    symlink("nowhere/file", at("to-nowhere")).unwrap();
    symlink("loop-b", at("loop-a")).unwrap();
    symlink("loop-a", at("loop-b")).unwrap();
    fs::write(at("fixed"), "mine").unwrap();
    fs::set_permissions(at("fixed"), fs::Permissions::from_mode(0o444)).unwrap();
    let before = names(dir.path());
    let is = |name: &str, kind: fn(&StoreError) -> bool| {
        let error = write(at(name), "x").unwrap_err();
        assert!(kind(&error), "{name}: {error}");
    };
    is("folder", |e| matches!(e, StoreError::IsFolder { .. }));
    is("to-folder", |e| matches!(e, StoreError::IsFolder { .. }));
    is("to-nowhere", |e| matches!(e, StoreError::NoFolder { .. }));
    is("none/file", |e| matches!(e, StoreError::NoFolder { .. }));
    is("fixed/file", |e| matches!(e, StoreError::NoFolder { .. }));
    is("loop-a", |e| matches!(e, StoreError::LinkLoop { .. }));
    is("fixed", |e| matches!(e, StoreError::ReadOnly { .. }));
    assert_eq!(fs::read(at("fixed")).unwrap(), b"mine");
    assert_eq!(names(dir.path()), before);
}

#[test]
fn a_device_is_written_to_and_not_replaced() {
    use std::os::unix::fs::FileTypeExt;
    write("/dev/null", "x").unwrap();
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
}

#[test]
fn a_folder_appears_complete_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let filled = |folder: StagedFolder, text: &str| {
        fs::create_dir(folder.path().join("deep")).unwrap();
        fs::write(folder.path().join("deep/file"), text).unwrap();
        folder
    };
    drop(filled(StagedFolder::new(&out).unwrap(), "lost"));
    assert!(names(dir.path()).is_empty());
    fs::create_dir(&out).unwrap();
    filled(StagedFolder::new(&out).unwrap(), "one").publish().unwrap();
    assert!(matches!(StagedFolder::new(&out), Err(StoreError::NotEmpty { .. })));
    filled(StagedFolder::replacing(&out).unwrap(), "two").publish().unwrap();
    assert_eq!(fs::read(out.join("deep/file")).unwrap(), b"two");
    assert_eq!(names(dir.path()), ["out"]);
    let plain = dir.path().join("plain");
    fs::create_dir(&plain).unwrap();
    assert_eq!(mode(&out), mode(&plain), "what the umask allows");
    let nowhere = StagedFolder::new(dir.path().join("a/b"));
    assert!(matches!(nowhere, Err(StoreError::NoFolder { .. })));
}

#[test]
fn stale_temporary_files_are_removed_and_locked_ones_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("a"), dir.path().join("b"));
    let pending = PendingFile::create(&path).unwrap();
    let staged = StagedFolder::new(&other).unwrap();
    fs::write(staged.path().join("file"), "x").unwrap();
    fs::write(dir.path().join(".editmgt-dead.tmp"), "half").unwrap();
    fs::create_dir(dir.path().join(".editmgt-dead-folder.tmp")).unwrap();
    fs::write(dir.path().join(".editmgt-dead-folder.tmp/x"), "half").unwrap();
    fs::write(dir.path().join("mine.tmp"), "mine").unwrap();
    remove_stale(dir.path());
    assert_eq!(names(dir.path()).len(), 3);
    pending.commit().unwrap();
    staged.publish().unwrap();
    assert_eq!(names(dir.path()), ["a", "b", "mine.tmp"]);
}
