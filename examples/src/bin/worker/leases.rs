//! `worker leases …`: looking after the lease table of an application.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_config::SdkConfig;
use clap::{Args, Parser, Subcommand};
use kinesis_consumer::admin::{
    Change, ChangeResult, Cover, LeaseAdmin, LeaseState, ResetTo, Which,
};
use kinesis_consumer::{BoxError, StreamId, StreamSource};
use serde::Serialize;
use serde_json::json;

use crate::{Connection, Tables};

/// Looks after the lease table of an application.
#[derive(Debug, Parser)]
#[command(bin_name = "worker")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Looks after the lease table of an application.
    #[command(subcommand)]
    Leases(Leases),
}

impl Cli {
    /// Does what was asked for, and prints what came of it.
    ///
    /// # Errors
    /// Also when `verify` finds something or leases were left alone, after printing that.
    pub(crate) async fn run(self) -> Result<(), BoxError> {
        let Command::Leases(leases) = self.command;
        leases.run().await
    }
}

/// What to do with the leases.
#[derive(Debug, Subcommand)]
enum Leases {
    /// Lists them: owner, checkpoint, how long ago its record was written, and how far behind the
    /// shard's tip it is.
    ///
    /// "record s" is the age of the checkpointed record, checkpoint_age_seconds of --json. It grows
    /// where nothing is written, though all is processed; the metric
    /// kinesis_consumer_checkpoint_age_seconds is the time since the last checkpoint instead.
    List {
        #[command(flatten)]
        table: Table,
        /// A stream whose lag is asked for, by name or ARN; may be given several times.
        #[arg(long)]
        stream: Vec<String>,
    },
    /// Takes leases away from their owners; who is at work drains and checkpoints first.
    ///
    /// Workers of a KCL 2.x cannot be asked to: nothing is changed while they hold one of the leases.
    Release {
        #[command(flatten)]
        table: Table,
        #[command(flatten)]
        which: Chosen,
    },
    /// Lets reading start again elsewhere. Stop the application first.
    ///
    /// An instant is refused where a KCL has been: one that is not itself set to AT_TIMESTAMP never reads
    /// such a lease, and does not give it up.
    Reset {
        #[command(flatten)]
        table: Table,
        #[command(flatten)]
        which: Chosen,
        /// trim_horizon, latest, or an instant in milliseconds since the Unix epoch.
        #[arg(long, value_parser = reset_to)]
        to: ResetTo,
        /// No KCL reads this table any more, whatever it left there: an instant may be set.
        #[arg(long)]
        without_kcl: bool,
    },
    /// Moves the leases between an application of one stream and one of several, with their
    /// checkpoints. Stop the application first.
    Convert {
        #[command(flatten)]
        table: Table,
        /// The layout to convert to.
        #[arg(long, value_enum)]
        to: Layout,
        /// The stream: name, ARN, or id (account:name:epoch).
        #[arg(long)]
        stream: String,
    },
    /// Ends handoffs that nobody carries on.
    Unstick {
        #[command(flatten)]
        table: Table,
    },
    /// Checks that the leases cover every hash key; ends with an error if not, or if there are none.
    Verify {
        #[command(flatten)]
        table: Table,
        /// A stream that has to have leases, by name or ARN; may be given several times. Without it, one
        /// of several streams whose leases are all gone is not missed.
        #[arg(long)]
        stream: Vec<String>,
    },
}

/// Which table, and how to speak.
#[derive(Args, Debug)]
struct Table {
    /// The application; the lease table has its name, unless --table has another.
    #[arg(long)]
    application: String,
    #[command(flatten)]
    tables: Tables,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
    /// For how long a lease is watched before nobody counts as holding it, in milliseconds: the
    /// workers' --failover-ms, or more. With less, leases are taken from workers that are at work,
    /// and two process a shard for a moment.
    #[arg(long, default_value_t = 10_000)]
    failover_ms: u64,
    /// The same for a lease that a worker of a KCL may have: its failoverTimeMillis, or more.
    #[arg(long, default_value_t = 60_000)]
    kcl_failover_ms: u64,
    #[command(flatten)]
    connection: Connection,
}

/// Which leases.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Chosen {
    /// This one, by its key or its shard's id; may be given several times.
    #[arg(long)]
    lease: Vec<String>,
    /// All of them.
    #[arg(long)]
    all: bool,
}

impl Chosen {
    fn which(self) -> Which {
        if self.all {
            return Which::All;
        }
        Which::Of(self.lease.into_iter().collect::<BTreeSet<_>>())
    }
}

/// How a table is laid out.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Layout {
    /// Of an application that reads several streams.
    Multi,
    /// Of an application that reads one.
    Single,
}

fn reset_to(text: &str) -> Result<ResetTo, String> {
    match text {
        "trim_horizon" => Ok(ResetTo::TrimHorizon),
        "latest" => Ok(ResetTo::Latest),
        millis => millis.parse().map(ResetTo::AtTimestamp).map_err(|_| {
            "must be trim_horizon, latest or milliseconds since the Unix epoch".to_owned()
        }),
    }
}

impl Leases {
    fn table(&self) -> &Table {
        match self {
            Self::List { table, .. }
            | Self::Release { table, .. }
            | Self::Reset { table, .. }
            | Self::Convert { table, .. }
            | Self::Unstick { table }
            | Self::Verify { table, .. } => table,
        }
    }

    async fn run(self) -> Result<(), BoxError> {
        let table = self.table();
        let (json, aws) = (table.json, table.connection.aws().await);
        let admin = admin(table, &aws);
        match self {
            Self::List { stream, .. } => {
                let streams: Vec<_> = stream.iter().map(StreamSource::new).collect();
                let leases = admin.list(&streams).await?;
                print(json, &json!({ "leases": leases }), || listed(&leases))
            }
            Self::Release { which, .. } => changed(json, &admin.release(&which.which()).await?),
            Self::Reset {
                which,
                to,
                without_kcl,
                ..
            } => {
                let admin = if without_kcl {
                    admin.without_kcl()
                } else {
                    admin
                };
                changed(json, &admin.reset(&which.which(), to).await?)
            }
            Self::Unstick { .. } => changed(json, &admin.unstick().await?),
            Self::Convert { to, stream, .. } => {
                let id = match stream.parse::<StreamId>() {
                    Ok(id) => id,
                    Err(_) => admin.identify(&StreamSource::new(&stream)).await?,
                };
                changed(
                    json,
                    &match to {
                        Layout::Multi => admin.convert_to_multi_stream(&id).await?,
                        Layout::Single => admin.convert_to_single_stream(&id).await?,
                    },
                )
            }
            Self::Verify { stream, .. } => {
                let streams: Vec<_> = stream.iter().map(StreamSource::new).collect();
                let cover = admin.verify(&streams).await?;
                print(json, &cover, || verified(&cover))?;
                if cover.sound {
                    return Ok(());
                }
                Err("the leases do not cover every hash key, or a row cannot be read".into())
            }
        }
    }
}

fn admin(table: &Table, aws: &SdkConfig) -> LeaseAdmin {
    let kinesis = aws_sdk_kinesis::Client::new(aws);
    let dynamodb = aws_sdk_dynamodb::Client::new(aws);
    LeaseAdmin::new(&table.application, kinesis, dynamodb)
        .table(&table.tables.settings())
        .failover_time(Duration::from_millis(table.failover_ms))
        .kcl_failover_time(Duration::from_millis(table.kcl_failover_ms))
}

fn print(
    json: bool,
    object: &impl Serialize,
    text: impl FnOnce() -> String,
) -> Result<(), BoxError> {
    if json {
        println!("{}", serde_json::to_string(object)?);
    } else {
        print!("{}", text());
    }
    Ok(())
}

/// Leases that were left alone are an error, after all are told.
fn changed(json: bool, changes: &[Change]) -> Result<(), BoxError> {
    print(json, &json!({ "leases": changes }), || {
        let lines = changes
            .iter()
            .map(|change| format!("{}  {}\n", change.lease, change.result));
        lines.collect()
    })?;
    let left = |change: &&Change| {
        matches!(
            change.result,
            ChangeResult::Held | ChangeResult::InHandoff | ChangeResult::ChangedMeanwhile
        )
    };
    match changes.iter().filter(left).count() {
        0 => Ok(()),
        left => Err(format!("{left} of {} leases were left alone", changes.len()).into()),
    }
}

fn listed(leases: &[LeaseState]) -> String {
    let mut text = String::new();
    let key = leases
        .iter()
        .map(|lease| lease.lease.len())
        .max()
        .unwrap_or(0);
    let owner = |lease: &LeaseState| match (&lease.owner, &lease.checkpoint_owner) {
        (None, _) => "-".to_owned(),
        (Some(owner), None) => owner.clone(),
        (Some(next), Some(holder)) => format!("{holder} -> {next}"),
    };
    let owners = leases
        .iter()
        .map(|lease| owner(lease).len())
        .max()
        .unwrap_or(0)
        .max(5);
    let mut line = |line: std::fmt::Arguments<'_>| text.push_str(&format!("{line}\n"));
    line(format_args!(
        "{:key$}  {:owners$}  {:>10}  {:>10}  checkpoint",
        "lease", "owner", "behind ms", "record s"
    ));
    let or_dash = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
    for lease in leases {
        let sub = match lease.sub_sequence {
            0 => String::new(),
            sub => format!(".{sub}"),
        };
        line(format_args!(
            "{:key$}  {:owners$}  {:>10}  {:>10}  {}{sub}",
            lease.lease,
            owner(lease),
            or_dash(lease.millis_behind_latest),
            or_dash(lease.checkpoint_age_seconds),
            lease.checkpoint,
        ));
    }
    text
}

fn verified(cover: &Cover) -> String {
    let mut text = String::new();
    for stream in &cover.streams {
        let name = stream.stream.as_deref().unwrap_or("the stream");
        text.push_str(&format!(
            "{name}: {} open, {} ended\n",
            stream.open, stream.ended
        ));
        for (what, list) in [
            ("no open lease covers", &stream.holes),
            ("has no range", &stream.without_range),
            ("is being handed over", &stream.in_handoff),
        ] {
            text.extend(list.iter().map(|item| format!("  {what}: {item}\n")));
        }
    }
    text.extend(cover.unreadable.iter().map(|row| format!("{row}\n")));
    text.push_str(if cover.sound {
        "sound\n"
    } else {
        "not sound\n"
    });
    text
}
