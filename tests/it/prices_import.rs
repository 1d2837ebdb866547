//! `weir prices import`, as it is called.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const LITELLM: &str = r#"{
    "sample_spec": {"input_cost_per_token": 0.0},
    "gpt-4o": {"mode": "chat", "input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05},
    "whisper-1": {"mode": "audio_transcription", "input_cost_per_second": 0.0001}
}"#;

const BY_HAND: &str = "# Agreed in May.\nmodels:\n  'claude-*': { input: 9, output: 9 }\n";

fn import(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["prices", "import"])
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("the command runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[test]
fn nothing_is_written_before_somebody_says_yes() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("prices.yaml");
    fs::write(folder.path().join("litellm.json"), LITELLM).expect("a file");
    fs::write(&file, BY_HAND).expect("a file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("a mode");

    let shown = import(folder.path(), &["litellm.json", "--into", "prices.yaml"]);
    assert_eq!(shown.status.code(), Some(1), "it is not as the import has it");
    let difference = "\
+ gpt-4o: input: \"2.5\", output: \"10\"
! whisper-1: not imported: it is priced by what Weir does not count: input_cost_per_second
1 added, 0 changed, 0 as before, 0 kept, 1 not imported
";
    assert_eq!(text(&shown.stdout), format!("{difference}nothing was written; --yes writes without asking\n"));
    assert_eq!(fs::read_to_string(&file).expect("a file"), BY_HAND);

    let written = import(folder.path(), &["litellm.json", "--into", "prices.yaml", "--yes"]);
    assert_eq!(written.status.code(), Some(0), "{}", text(&written.stderr));
    assert_eq!(text(&written.stdout), format!("{difference}prices.yaml is written; `weir reload` puts it in force\n"));
    let after = fs::read_to_string(&file).expect("a file");
    assert!(after.starts_with(BY_HAND), "{after}");
    assert!(after.ends_with("\nimported:\n  \"gpt-4o\": { input: \"2.5\", output: \"10\" }\n"), "{after}");
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::read_dir(folder.path()).expect("a directory").count(), 2, "no draft is left");

    let again = import(folder.path(), &["litellm.json", "--into", "prices.yaml"]);
    assert_eq!(again.status.code(), Some(0), "there is nothing to write");
    assert_eq!(fs::read_to_string(&file).expect("a file"), after);
}

#[test]
fn a_new_price_file_is_one_that_a_gateway_takes() {
    let folder = tempfile::tempdir().expect("a directory");
    fs::create_dir(folder.path().join("conf")).expect("a directory");
    fs::write(folder.path().join("litellm.json"), LITELLM).expect("a file");
    assert_eq!(import(folder.path(), &["litellm.json", "--yes"]).status.code(), Some(0));
    let weir = folder.path().join("conf/weir.yaml");
    fs::write(&weir, "channels: []\nprices: prices.yaml\nunpriced: refuse\n").expect("a file");
    let check = Command::new(env!("CARGO_BIN_EXE_weir")).args(["check", "-c"]).arg(&weir).output().expect("it runs");
    assert!(check.status.success(), "{}", text(&check.stderr));
    assert!(text(&check.stdout).ends_with(", 1 price\n"), "{}", text(&check.stdout));
}

#[test]
fn what_cannot_be_read_is_named_and_nothing_is_touched() {
    let folder = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("a file");
    write("good.json", LITELLM);
    write("broken.json", "{");
    write("list.json", "[]");
    write("empty.json", "{}");
    write("prices.yaml", "models: { a: { inptu: 1 } }");
    for (arguments, code, named) in [
        (&["gone.json", "--yes"][..], 1, "gone.json: No such file"),
        (&["broken.json", "--yes"], 1, "broken.json: EOF while parsing"),
        (&["list.json", "--yes"], 1, "list.json: invalid type: sequence, expected an object"),
        (&["empty.json", "--yes"], 1, "empty.json: holds no models"),
        (&["good.json", "--yes", "--into", "prices.yaml"], 1, "prices.yaml:1:16: unknown field `inptu`"),
        (&["good.json", "--yes", "--into", "none/prices.yaml"], 1, "none/prices.yaml: "),
        (&[], 2, "<FILE>"),
        (&["good.json", "--colour"], 2, "--colour"),
    ] {
        let output = import(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(text(&output.stderr).contains(named), "{arguments:?}: {}", text(&output.stderr));
    }
    assert_eq!(fs::read_to_string(folder.path().join("prices.yaml")).expect("a file"), "models: { a: { inptu: 1 } }");
}
