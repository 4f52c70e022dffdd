//! Reads the fault plan that `--faults` names: TOML if the file's name ends so, else JSON.

use std::path::{Path, PathBuf};

use kinesis_local::FaultPlan;

/// Largest file that is read, in bytes. Source: none, reasonable bound.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// Why a plan cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("the fault plan {} cannot be read", .0.display())]
    File(PathBuf, #[source] std::io::Error),
    #[error("the fault plan {} is larger than {FILE_MAX_BYTES} bytes", .0.display())]
    TooLarge(PathBuf),
    #[error("the fault plan {} is not a plan in TOML", .0.display())]
    Toml(PathBuf, #[source] Box<toml::de::Error>),
    #[error("the fault plan {} is not a plan in JSON", .0.display())]
    Json(PathBuf, #[source] serde_json::Error),
}

/// The plan in this file.
pub(crate) fn read(path: &Path) -> Result<FaultPlan, Unreadable> {
    let unreadable = |error| Unreadable::File(path.to_owned(), error);
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_MAX_BYTES {
        return Err(Unreadable::TooLarge(path.to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    if path
        .extension()
        .is_some_and(|extension| extension == "toml")
    {
        let plan = toml::from_str(&text);
        plan.map_err(|error| Unreadable::Toml(path.to_owned(), Box::new(error)))
    } else {
        let plan = serde_json::from_str(&text);
        plan.map_err(|error| Unreadable::Json(path.to_owned(), error))
    }
}

#[cfg(test)]
mod tests {
    use kinesis_local::{FaultEffect, FaultRule};

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
        assert_eq!(read(&toml).unwrap(), expected);
        assert_eq!(read(&json).unwrap(), expected);
    }
}
