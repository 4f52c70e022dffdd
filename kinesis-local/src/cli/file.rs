//! Reads what an argument names a file for: TOML if the file's name ends so, else JSON.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Largest file that is read, in bytes. Source: none, reasonable bound.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// Why a file cannot be used; what it is for, and its path.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("the {} {} cannot be read", .0, .1.display())]
    File(&'static str, PathBuf, #[source] std::io::Error),
    #[error("the {} {} is larger than {FILE_MAX_BYTES} bytes", .0, .1.display())]
    TooLarge(&'static str, PathBuf),
    #[error("the {} {} is not one in TOML", .0, .1.display())]
    Toml(&'static str, PathBuf, #[source] Box<toml::de::Error>),
    #[error("the {} {} is not one in JSON", .0, .1.display())]
    Json(&'static str, PathBuf, #[source] serde_json::Error),
}

/// What is in this file; `what` calls it in errors.
pub(crate) fn read<T: DeserializeOwned>(what: &'static str, path: &Path) -> Result<T, Unreadable> {
    let unreadable = |error| Unreadable::File(what, path.to_owned(), error);
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_MAX_BYTES {
        return Err(Unreadable::TooLarge(what, path.to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    if path
        .extension()
        .is_some_and(|extension| extension == "toml")
    {
        let read = toml::from_str(&text);
        read.map_err(|error| Unreadable::Toml(what, path.to_owned(), Box::new(error)))
    } else {
        let read = serde_json::from_str(&text);
        read.map_err(|error| Unreadable::Json(what, path.to_owned(), error))
    }
}

#[cfg(test)]
mod tests {
    use kinesis_local::{FaultEffect, FaultPlan, FaultRule, Quotas};

    use super::*;

    #[test]
    fn a_plan_is_the_same_in_toml_and_in_json() {
        let directory = tempfile::tempdir().unwrap();
        let toml = directory.path().join("plan.toml");
        let json = directory.path().join("plan.json");
        std::fs::write(
            &toml,
            "seed = 7\n\n[[rules]]\noperations = [\"PutRecords\"]\ntimes = 3\n\
             effect = { fail_entries = { rate = 0.5 } }\n\n[[rules]]\neffect = \"drop_response\"\n",
        )
        .unwrap();
        let text = r#"{"seed":7,"rules":[
            {"operations":["PutRecords"],"times":3,"effect":{"fail_entries":{"rate":0.5}}},
            {"effect":"drop_response"}]}"#;
        std::fs::write(&json, text).unwrap();
        let failing = FaultEffect::fail_entries(0.5, "ProvisionedThroughputExceededException");
        let expected = FaultPlan::seeded(7)
            .rule(FaultRule::new(failing).operation("PutRecords").times(3))
            .rule(FaultRule::new(FaultEffect::DropResponse));
        assert_eq!(read::<FaultPlan>("fault plan", &toml).unwrap(), expected);
        assert_eq!(read::<FaultPlan>("fault plan", &json).unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_read_is_named_with_the_file_and_the_field() {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("limits.toml", "reads = 1"),
            ("limits.json", r#"{"reads": 1}"#),
        ] {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            let error = read::<Quotas>("limits", &path).unwrap_err();
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(error.to_string().contains(name), "{error}");
            assert!(cause.contains("reads"), "{cause}");
        }
    }
}
