//! Every program runs by itself and says what it promises to say.

use std::path::Path;
use std::process::{Command, Output};

fn run(program: &str, args: &[&str]) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program)
        .args(args)
        .output()
        .expect("the program starts");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr),
    );
    assert!(
        status.success(),
        "{program} {args:?} ended with {status}\n{stdout}\n{stderr}"
    );
    stdout.into_owned()
}

#[test]
fn the_first_program_reads_what_it_put() {
    let said = run(env!("CARGO_BIN_EXE_01_local"), &[]);
    assert_eq!(
        said.lines().filter(|line| line.starts_with("put ")).count(),
        3,
        "{said}"
    );
    assert_eq!(
        said.lines()
            .filter(|line| line.starts_with("read "))
            .count(),
        3,
        "{said}"
    );
}

#[test]
fn the_second_program_sends_a_thousand_flights_in_few_records() {
    let said = run(env!("CARGO_BIN_EXE_02_produce"), &[]);
    assert!(said.contains("1000 flights are in "), "{said}");
    assert!(said.contains("refused, InvalidRecord"), "{said}");
}

#[test]
fn the_third_program_goes_on_from_its_checkpoints() {
    let said = run(env!("CARGO_BIN_EXE_03_consume"), &[]);
    assert!(
        said.contains("worker 2 has processed 1000 flights"),
        "{said}"
    );
    assert_eq!(said.matches("from its checkpoint").count(), 2, "{said}");
}

#[test]
fn the_quickstart_loses_nothing_and_a_second_run_resumes() {
    let directory = tempfile::tempdir().expect("a directory");
    let keep = directory.path().to_str().expect("a path in UTF-8");
    let first = run(
        env!("CARGO_BIN_EXE_quickstart"),
        &["--records", "3000", "--keep", keep],
    );
    assert!(first.contains("stored        3,000"), "{first}");
    let second = run(
        env!("CARGO_BIN_EXE_quickstart"),
        &["--records", "2000", "--keep", keep],
    );
    assert!(second.contains("stored        2,000"), "{second}");
    assert!(
        second.contains("resumed from checkpoints: 0 processed again; 5,000 stored in all"),
        "{second}"
    );
    assert!(
        lines_below(&directory.path().join("s3/flights")) >= 5_000,
        "plain files"
    );
}

fn lines_below(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).expect("the bucket is a directory");
    entries
        .map(|entry| entry.expect("an entry").path())
        .map(|path| match path.is_dir() {
            true => lines_below(&path),
            false => std::fs::read_to_string(path)
                .expect("an object in UTF-8")
                .lines()
                .count(),
        })
        .sum()
}

#[test]
fn the_load_says_what_producing_costs_on_the_last_line() {
    let args = ["produce", "--records", "3000", "--warm-up", "100", "--json"];
    let said = run(env!("CARGO_BIN_EXE_load"), &args);
    let figures = last_line(&said);
    assert_eq!(figures["records"], 3000.0, "{said}");
    assert_eq!(figures["failed"], 0.0, "{said}");
    let names = [
        "records_per_s",
        "mb_per_s",
        "ack_ms_p50",
        "ack_ms_p99",
        "ack_ms_p999",
    ];
    for name in names {
        assert!(figures[name].as_f64().is_some_and(|n| n > 0.0), "{said}");
    }
    // Missing where there is no /proc, but always named.
    for name in ["cpu_s_per_million_records", "rss_mb", "threads"] {
        assert!(figures.get(name).is_some(), "{name}: {said}");
    }
}

#[test]
fn the_load_compares_an_idle_producer_with_the_sdk_alone() {
    let args = ["idle", "--records", "20", "--warm-up", "2", "--json"];
    let said = run(env!("CARGO_BIN_EXE_load"), &args);
    let figures = last_line(&said);
    assert_eq!(figures["records"], 20.0, "{said}");
    for way in ["producer", "put_records", "put_record"] {
        for quantile in ["p50", "p99"] {
            let figure = figures[format!("{way}_ms_{quantile}")].as_f64();
            assert!(figure.is_some_and(|n| n > 0.0), "{said}");
        }
    }
}

#[test]
fn the_load_reads_what_it_wrote_by_polling_and_by_fan_out() {
    for how in [&[][..], &["--fan-out"]] {
        let args = [
            "consume",
            "--records",
            "3000",
            "--warm-up",
            "500",
            "--live-seconds",
            "1",
            "--live-rate",
            "50",
            "--json",
        ];
        let said = run(env!("CARGO_BIN_EXE_load"), &[&args, how].concat());
        let figures = last_line(&said);
        // Without those of the first batch, from which on it is measured.
        let measured = figures["records"].as_f64();
        assert!(measured.is_some_and(|n| n <= 3000.0), "{said}");
        assert_eq!(figures["live_records"], 50.0, "{said}");
        for name in ["first_record_s", "end_to_end_ms_p50", "end_to_end_ms_p99"] {
            assert!(figures[name].as_f64().is_some_and(|n| n > 0.0), "{said}");
        }
    }
}

fn last_line(said: &str) -> serde_json::Value {
    let last = said.lines().last().expect("it said something");
    serde_json::from_str(last).expect("an object")
}
