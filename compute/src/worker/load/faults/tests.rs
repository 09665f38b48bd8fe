use datafusion::arrow::datatypes::{DataType, Field};
use object_store::memory::InMemory;
use object_store::path::Path;

use super::*;
use crate::sql::blame;

/// What is said of `text` when the engine could not read it as lines with a number and bytes.
async fn fault(text: &str) -> String {
    let (store, path) = (InMemory::new(), Path::from("upload"));
    store
        .put(&path, text.to_owned().into_bytes().into())
        .await
        .expect("memory is always writable");
    let fields = vec![
        Field::new("n", DataType::Int64, true),
        Field::new("bytes", DataType::Binary, true),
    ];
    let faults = Faults::new(
        Staged {
            store: Arc::new(store),
            path,
        },
        LoadFormat::Json,
    );
    let faults = faults.with_columns(&Arc::new(Schema::new(fields)));
    let engine = ArrowError::JsonError("something about an object".to_owned());
    blame::sql_error(&faults.explain(engine.into()).await).message
}

#[tokio::test]
async fn a_line_of_json_that_does_not_read_is_named() {
    assert_eq!(
        fault("{\"n\": 1}\n\n{\"n\": 2\n").await,
        "line 3 of the file is not JSON: EOF while parsing an object at character 7"
    );
    assert_eq!(
        fault("{\"n\": 1}\n[1]\n").await,
        "line 2 of the file is not a JSON object"
    );
    assert_eq!(
        fault("{\"n\": 1}\n{\"n\": \"many\"}\n").await,
        "line 2 of the file does not fit: in column 'n': failed to parse \"many\" as Int64"
    );
    assert_eq!(
        fault("{\"bytes\": \"AP/+\"}\n{\"bytes\": \"?\"}\n").await,
        "line 2 of the file does not fit: column bytes is not base64"
    );
    assert_eq!(
        fault("{\"n\": 1}\n").await,
        "the lines of the file do not fit together: something about an object"
    );
}

#[tokio::test]
async fn a_fault_of_the_store_is_not_the_files() {
    let staged = Staged {
        store: Arc::new(InMemory::new()),
        path: Path::from("upload"),
    };
    let missing = object_store::Error::NotFound {
        path: "upload".to_owned(),
        source: "gone".into(),
    };

    let error = Faults::new(staged, LoadFormat::Parquet).explain(missing.into()).await;

    assert!(matches!(error, DataFusionError::ObjectStore(_)));
}
