//! DescribeAccountSettings and UpdateAccountSettings: the account's minimum throughput billing
//! commitment, in each region for itself.

use serde::Deserialize;

use super::{Inner, Reply, unwritable};
use crate::commitment::Commitment;
use crate::log::entry::Entry;
use crate::wire::Body;
use crate::wire::constraint::Constraints;
use crate::wire::fault::Fault;
use crate::wire::read::{Structure, Text, decode};
use crate::wire::write::{Encode, Writer};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DescribeAccountSettingsRequest {}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct UpdateAccountSettingsRequest<'a> {
    minimum_throughput_billing_commitment: Option<Structure<CommitmentRequest<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct CommitmentRequest<'a> {
    status: Option<Text<'a>>,
}

/// What both operations answer: the commitment as it is now.
#[derive(Debug)]
struct AccountSettingsAnswer {
    commitment: Commitment,
    now_ms: u64,
}

impl Encode for AccountSettingsAnswer {
    fn encode(&self, writer: &mut Writer) {
        let Self { commitment, now_ms } = self;
        writer.structure(|writer| {
            writer.key("MinimumThroughputBillingCommitment");
            writer.structure(|writer| {
                writer.key("Status");
                writer.plain(commitment.status(*now_ms).name());
                for (key, at_ms) in [
                    ("StartedAt", commitment.started_ms),
                    ("EndedAt", commitment.ended_ms(*now_ms)),
                    ("EarliestAllowedEndAt", commitment.earliest_end_ms(*now_ms)),
                ] {
                    if let Some(at_ms) = at_ms {
                        writer.key(key);
                        writer.timestamp(at_ms);
                    }
                }
            });
        });
    }
}

impl Inner {
    pub(super) async fn describe_account_settings(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let DescribeAccountSettingsRequest {} = decode(body)?;
        self.check_pace()?;
        let answer = AccountSettingsAnswer {
            commitment: *self.commitment(),
            now_ms: self.now_ms(),
        };
        self.settled().await?;
        Ok(Reply::to(body, &answer))
    }

    pub(super) async fn update_account_settings(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: UpdateAccountSettingsRequest<'_> = decode(body)?;
        let asked = request.minimum_throughput_billing_commitment;
        let asked = asked.as_ref().map(|Structure(asked)| asked);
        check_update(asked)?;
        self.check_pace()?;
        self.check_writable()?;
        let enabled = asked.is_some_and(|asked| asked.status.as_deref() == Some("ENABLED"));
        let (ticket, answer) = {
            let mut commitment = self.commitment();
            let now_ms = self.now_ms();
            commitment.update(enabled, now_ms);
            let answer = AccountSettingsAnswer {
                commitment: *commitment,
                now_ms,
            };
            let entry = Entry::Commitment {
                place: self.place_to_keep(),
                at_ms: now_ms,
                enabled,
            };
            (self.log.submit(entry, None, None), answer)
        };
        ticket
            .stored()
            .await
            .map_err(|failure| unwritable(&failure))?;
        Ok(Reply::to(body, &answer))
    }
}

fn check_update(asked: Option<&CommitmentRequest<'_>>) -> Result<(), Fault> {
    let mut constraints = Constraints::default();
    constraints.present(asked.is_some(), "minimumThroughputBillingCommitment");
    if let Some(asked) = asked {
        let path = "minimumThroughputBillingCommitment.status";
        constraints.present(asked.status.is_some(), path);
        constraints.one_of(path, asked.status.as_deref(), &["ENABLED", "DISABLED"]);
    }
    constraints.done()
}
