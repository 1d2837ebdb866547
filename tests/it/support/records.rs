//! The records that a gateway writes, read and held against their published schema.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::{Gateway, eventually};

/// The schema in `conf/`.
pub(crate) struct Schema(jsonschema::Validator);

impl Schema {
    pub(crate) fn published() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/record.schema.json");
        let text = std::fs::read_to_string(path).expect("the schema is in conf/");
        let schema = serde_json::from_str(&text).expect("the schema is JSON");
        Self(jsonschema::validator_for(&schema).expect("the schema is one"))
    }

    /// Panics with all that is wrong.
    pub(crate) fn check(&self, record: &Value) {
        let wrong: Vec<_> = self.0.iter_errors(record).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(wrong.is_empty(), "{}\nin {record}", wrong.join("\n"));
    }
}

impl Gateway {
    /// Every record that is in its files, in no order; compressed files too.
    pub(crate) fn written_records(&self) -> Vec<Value> {
        let mut text = String::new();
        for entry in std::fs::read_dir(self.data_dir().join("audit")).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(mut file) = File::open(&path) else { continue };
            let mut read = String::new();
            if path.extension().is_some_and(|ending| ending == "gz") {
                flate2::read::MultiGzDecoder::new(file).read_to_string(&mut read).expect("a whole file");
            } else {
                file.read_to_string(&mut read).expect("text");
            }
            assert!(read.is_empty() || read.ends_with('\n'), "{} ends in the middle of a line", path.display());
            text.push_str(&read);
        }
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    /// The same, once there are `count` of them.
    pub(crate) async fn records(&self, count: usize) -> Vec<Value> {
        let what = format!("{count} records");
        let records = eventually(&what, async || {
            let records = self.written_records();
            (records.len() >= count).then_some(records)
        });
        let records = records.await;
        assert_eq!(records.len(), count, "no request leaves two records");
        records
    }

    /// The record of the request with this id, once it is there.
    pub(crate) async fn record(&self, id: &str) -> Value {
        eventually(&format!("the record of {id}"), async || {
            self.written_records().into_iter().find(|record| record["id"] == id)
        })
        .await
    }
}
