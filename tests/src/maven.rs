//! Builds the Java programs of `interop/`, for the tests against other implementations.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::Mutex;

/// How often Maven is started, with a pause between, as what it downloads may fail to come. Source: none.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_secs(15);

/// The directory with the programs of `interop/{package}` in `classes` and all they need in `lib`;
/// made by Maven when it is not there or made from other sources. `tmp` is the test's
/// `CARGO_TARGET_TMPDIR`.
///
/// # Panics
/// If there is no `mvn`, or it fails.
pub async fn built(package: &str, tmp: &str) -> PathBuf {
    built_as(package, package, &[], tmp).await
}

/// As [`built`], with the peer that the package drives in another version than the newest: the
/// property of that name in its `pom.xml`.
///
/// # Panics
/// As [`built`].
pub async fn built_with(package: &str, version: &str, tmp: &str) -> PathBuf {
    let into = format!("{package}-{version}");
    built_as(package, &into, &[format!("-D{package}={version}")], tmp).await
}

async fn built_as(package: &str, into: &str, properties: &[String], tmp: &str) -> PathBuf {
    /// Tests of one process do not build the same thing at once.
    static BUILDING: Mutex<()> = Mutex::const_new(());
    let _alone = BUILDING.lock().await;
    let target = Path::new(tmp).parent().expect("it lies in target");
    let into = target.join("interop").join(into);
    let package = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("interop")
        .join(package);
    let sources = sources(&package);
    let stamp = into.join("built-from");
    if std::fs::read(&stamp).is_ok_and(|built_from| built_from == sources) {
        return into;
    }
    std::fs::create_dir_all(&into).expect("target can be written");
    let mut tries = 0;
    loop {
        let maven = Command::new("mvn")
            .args(["--quiet", "--batch-mode"])
            // A file that was not there the first time is otherwise not asked for again.
            .args((tries > 0).then_some("--update-snapshots"))
            .arg("--file")
            .arg(package.join("pom.xml"))
            .arg(format!("-Dinto={}", into.display()))
            .args(properties)
            .args(["compile", "dependency:copy-dependencies"])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .status()
            .await
            .expect("mvn starts");
        tries += 1;
        if maven.success() {
            break;
        }
        assert!(tries < TRIES, "mvn could not build {}", into.display());
        tokio::time::sleep(PAUSE).await;
    }
    std::fs::write(&stamp, sources).expect("target can be written");
    into
}

/// Everything that Maven makes a package from, one file behind the other.
fn sources(package: &Path) -> Vec<u8> {
    let mut files = vec![package.join("pom.xml")];
    let mut folders = vec![package.join("src/main/java")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            let kind = if path.is_dir() {
                &mut folders
            } else {
                &mut files
            };
            kind.push(path);
        }
    }
    files.sort();
    let read = |file: PathBuf| std::fs::read(file).expect("a source file");
    files.into_iter().flat_map(read).collect()
}

/// What `java -classpath` takes for a program that [`built`] gave.
pub fn class_path(built: &Path) -> String {
    format!("{0}/classes:{0}/lib/*", built.display())
}
