//! What is written, read, taken back and removed.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::files::{FILE_BYTES, MAX_TOTAL};
use super::*;

const NOW: u64 = 1_764_633_600_000;

struct Scene {
    home: tempfile::TempDir,
    changes: Changes,
}

impl Scene {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let changes = Changes::open(home.path());
        Self { home, changes }
    }

    fn note(&self, name: &str) {
        self.changes.note(&Actor::Token, NOW, change(name)).unwrap();
    }

    fn page(&self, query: &Query) -> (Vec<String>, Option<Position>) {
        let page = self.changes.page(query).unwrap();
        let names = page.rows.iter().map(|row| {
            let row: Value = serde_json::from_str(row).unwrap();
            row["name"].as_str().unwrap().to_owned()
        });
        (names.collect(), page.next)
    }

    /// Every page to the end.
    fn all(&self, mut query: Query) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let (names, next) = self.page(&query);
            all.extend(names);
            query.cursor = next;
            if query.cursor.is_none() {
                return all;
            }
        }
    }

    fn files(&self) -> Vec<std::path::PathBuf> {
        let mut files: Vec<_> =
            fs::read_dir(self.home.path().join("changes")).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

fn change(name: &str) -> Change {
    Change { action: "create", kind: "key", name: Some(name.to_owned()), before: None, after: None }
}

#[test]
fn a_change_is_read_as_it_was_written_and_only_its_owner_reads_the_file() {
    let scene = Scene::new();
    assert_eq!(scene.page(&Query::default()), (Vec::new(), None), "there is nothing yet");
    assert!(!scene.home.path().join("changes").exists());
    let fields = |value: Value| value.as_object().cloned();
    let name = "Ä \"b\" \\ \u{1F600}";
    let change = Change {
        action: "update",
        kind: "user",
        name: Some(name.to_owned()),
        before: fields(json!({ "a": null })),
        after: fields(json!({ "a": ["\n", 1.5] })),
    };
    let written = scene.changes.append(&Actor::User("Älice".into()), NOW, &[change]).unwrap();
    drop(written);
    let page = scene.changes.page(&Query::default()).unwrap();
    let row: Value = serde_json::from_str(&page.rows[0]).unwrap();
    let expected = json!({
        "id": "0000000100000000", "time": "2025-12-02T00:00:00.000Z", "who": "Älice", "action": "update",
        "kind": "user", "name": name, "before": { "a": null }, "after": { "a": ["\n", 1.5] },
    });
    assert_eq!((page.rows.len(), row, page.next), (1, expected, None));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&scene.files()[0]), mode(scene.files()[0].parent().unwrap())), (0o600, 0o700));
}

#[test]
fn pages_go_from_the_newest_to_the_oldest_and_have_each_once() {
    let scene = Scene::new();
    for i in 0..7 {
        scene.note(&i.to_string());
    }
    for limit in 1..=8 {
        let query = Query { limit, ..Query::default() };
        assert_eq!(scene.all(query), ["6", "5", "4", "3", "2", "1", "0"], "{limit} a page");
    }
    let (_, next) = scene.page(&Query { limit: 2, ..Query::default() });
    scene.note("7");
    let (names, _) = scene.page(&Query { limit: 2, cursor: next, ..Query::default() });
    assert_eq!(names, ["4", "3"], "what comes later moves nothing");
    assert_eq!(
        scene.page(&Query { limit: 8, ..Query::default() }).1,
        None,
        "a page that ends with the first is the last"
    );
}

#[test]
fn only_what_is_asked_for_is_shown() {
    let scene = Scene::new();
    for (kind, name) in [("key", "a"), ("user", "a"), ("key", "b")] {
        let change = Change { kind, ..change(name) };
        scene.changes.note(&Actor::Socket, NOW, change).unwrap();
    }
    scene.changes.note(&Actor::Socket, NOW, Change { kind: "prices", name: None, ..change("") }).unwrap();
    let asked = |kind: Option<&str>, name: Option<&str>| {
        let query = Query { kind: kind.map(str::to_owned), name: name.map(str::to_owned), ..Query::default() };
        scene.changes.page(&query).unwrap().rows.len()
    };
    assert_eq!([asked(Some("key"), None), asked(None, Some("a")), asked(Some("key"), Some("a"))], [2, 2, 1]);
    assert_eq!([asked(Some("prices"), None), asked(Some("prices"), Some("")), asked(Some("ke"), None)], [1, 0, 0]);
}

#[test]
fn what_was_not_made_is_taken_back_and_nothing_else() {
    let scene = Scene::new();
    scene.note("kept");
    let written = scene.changes.append(&Actor::Token, NOW, &[change("a"), change("b")]).unwrap();
    scene.changes.take_back(written).unwrap();
    assert_eq!(scene.all(Query::default()), ["kept"]);
    let written = scene.changes.append(&Actor::Token, NOW, &[change("a")]).unwrap();
    scene.note("later");
    let error = scene.changes.take_back(written).unwrap_err();
    assert_eq!(error.to_string(), "another process has written behind it");
    assert_eq!(scene.all(Query::default()), ["later", "a", "kept"]);
}

#[test]
fn a_line_that_a_kill_has_cut_disturbs_no_other() {
    let scene = Scene::new();
    scene.note("before");
    let whole = fs::read(&scene.files()[0]).unwrap();
    for cut in [1, whole.len() / 2, whole.len() - 1] {
        let path = &scene.files()[0];
        fs::write(path, [&whole[..], &whole[..cut]].concat()).unwrap();
        assert_eq!(scene.all(Query::default()), ["before"], "{cut} bytes");
        scene.note("after");
        assert!(fs::read(path).unwrap().ends_with(b"\n"));
        let all = scene.all(Query { limit: 1, ..Query::default() });
        // What is cut by its line feed alone is whole once another line has ended it.
        let expected = if cut == whole.len() - 1 { vec!["after", "before", "before"] } else { vec!["after", "before"] };
        assert_eq!(all, expected, "{cut} bytes");
    }
    for junk in [&b"\xff\xfe\n"[..], b"[]\n", b"{}\n", b"\n"] {
        fs::write(&scene.files()[0], [&whole[..], junk].concat()).unwrap();
        assert_eq!(scene.all(Query::default()), ["before"]);
    }
}

#[test]
fn files_are_bounded_each_and_in_all_and_the_newest_are_kept() {
    let scene = Scene::new();
    scene.note("first");
    let large = usize::try_from(FILE_BYTES).unwrap();
    for _ in 0..3 {
        let mut file = fs::OpenOptions::new().append(true).open(scene.files().last().unwrap()).unwrap();
        file.write_all(&vec![b'x'; large]).unwrap();
        scene.note("next");
    }
    assert_eq!(scene.files().len(), 4);
    assert_eq!(scene.all(Query::default()), ["next", "next", "next", "first"]);

    let older = usize::try_from(MAX_TOTAL).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&scene.files()[1]).unwrap();
    file.set_len(older as u64).unwrap();
    let mut file = fs::OpenOptions::new().append(true).open(scene.files().last().unwrap()).unwrap();
    file.write_all(&vec![b'x'; large]).unwrap();
    scene.note("last");
    let names: Vec<_> = scene.files().iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["00000003.jsonl", "00000004.jsonl", "00000005.jsonl"]);
    assert_eq!(scene.all(Query::default()), ["last", "next", "next"]);
}

#[test]
fn a_page_reads_a_few_files_and_says_where_to_go_on() {
    let scene = Scene::new();
    fs::create_dir_all(scene.home.path().join("changes")).unwrap();
    scene.note("first");
    for number in 2..=9 {
        let path = scene.home.path().join(format!("changes/{number:08}.jsonl"));
        fs::write(path, b"").unwrap();
        scene.note(&number.to_string());
    }
    let (names, next) = scene.page(&Query { name: Some("first".into()), ..Query::default() });
    assert_eq!((names.len(), next.is_some()), (0, true), "it is empty, and not the last");
    assert_eq!(scene.all(Query { name: Some("first".into()), ..Query::default() }), ["first"]);
}

#[test]
fn what_would_be_larger_than_any_page_is_said_to_be() {
    let scene = Scene::new();
    let huge = json!({ "models": ["x".repeat(MAX_SHOWN)] });
    let change =
        Change { after: huge.as_object().cloned(), before: json!({ "a": 1 }).as_object().cloned(), ..change("t") };
    scene.changes.note(&Actor::Token, NOW, change).unwrap();
    let row: Value = serde_json::from_str(&scene.changes.page(&Query::default()).unwrap().rows[0]).unwrap();
    assert_eq!((&row["before"], &row["after"]), (&json!({ "a": 1 }), &json!({ "too_large": true })));
}

#[test]
fn a_disk_that_takes_nothing_is_an_error_and_leaves_no_part() {
    let scene = Scene::new();
    fs::write(scene.home.path().join("changes"), b"a file stands where the folder should").unwrap();
    assert!(scene.changes.note(&Actor::Token, NOW, change("a")).is_err());
    fs::remove_file(scene.home.path().join("changes")).unwrap();
    scene.note("b");
    assert_eq!(scene.all(Query::default()), ["b"]);
}

#[test]
fn a_position_is_sixteen_digits() {
    let position: Position = "0000000a000000ff".parse().unwrap();
    assert_eq!(position.to_string(), "0000000a000000ff");
    for text in ["", "0000000a000000f", "0000000a000000ff0", "0000000A000000ff", "+000000a000000ff", "0000000g000000ff"]
    {
        assert_eq!(text.parse::<Position>(), Err(()), "{text}");
    }
}
