//! The leader's lock in DynamoDB, as the `dynamodb-lock-client` writes it.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::operation::update_item::{UpdateItemError, UpdateItemOutput};
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure as OnRefusal;

use super::{DynamoDbTable, Locked, UNITS, count_units};
use crate::error::Error;
use crate::lease::item::{ENTITY_TYPE, LEASE_KEY};
use crate::lease::lock::{
    Claim, ENTITY_LEADER, IS_RELEASED, LEADER, LEASE_DURATION, LockRow, OWNER_NAME, VERSION, text,
};
use crate::lease::table::Lock;

#[async_trait]
impl Lock for DynamoDbTable {
    async fn lock(&self) -> Result<Option<LockRow>, Error> {
        let place = self.layout().lock;
        let request = self
            .prompt
            .get_item()
            .table_name(place.table)
            .key(place.key, text(LEADER))
            .return_consumed_capacity(UNITS)
            // Half the price; what is claimed by it is claimed on condition.
            .consistent_read(false);
        let answer = Box::pin(request.send())
            .await
            .map_err(|error| Error::aws("reading the leader's lock", error))?;
        count_units("lock", None, answer.consumed_capacity());
        Ok(answer.item().and_then(LockRow::read))
    }

    async fn claim_lock(
        &self,
        claim: &Claim,
        me: &str,
        version: &str,
        duration: Duration,
    ) -> Result<Locked, Error> {
        let key = self.layout().lock.key;
        if key != LEASE_KEY {
            // A lock in a table of KCL 3.0 to 3.4 is free also when a leader that moved everything
            // has gone on to the one in the lease table.
            self.look_for_legacy_tables().await?;
            if self.layout().lock.key != key {
                return Ok(Locked::Moved);
            }
        }
        let (condition, seen) = match claim {
            Claim::Absent => ("attribute_not_exists(#key)", None),
            Claim::Released => (
                "attribute_exists(#key) AND attribute_exists(#released)",
                None,
            ),
            Claim::Expired(seen) => (
                "attribute_exists(#key) AND #version = :seen",
                Some(seen.as_str()),
            ),
        };
        let request = self
            .update_lock(condition, version, duration, seen)
            .update_expression(
                "SET #owner = :me, #duration = :duration, #version = :version, \
                 #entity = :leader REMOVE #released",
            )
            .expression_attribute_names("#key", key)
            .expression_attribute_names("#owner", OWNER_NAME)
            .expression_attribute_names("#entity", ENTITY_TYPE)
            .expression_attribute_names("#released", IS_RELEASED)
            .expression_attribute_values(":me", text(me))
            .expression_attribute_values(":leader", text(ENTITY_LEADER));
        locked(Box::pin(request.send()).await, "taking the leader's lock")
    }

    async fn beat_lock(
        &self,
        me: &str,
        seen: &str,
        version: &str,
        duration: Duration,
    ) -> Result<Locked, Error> {
        let condition = "attribute_exists(#key) AND #version = :seen AND #owner = :me";
        let request = self
            .update_lock(condition, version, duration, Some(seen))
            .update_expression("SET #duration = :duration, #version = :version")
            .expression_attribute_names("#key", self.layout().lock.key)
            .expression_attribute_names("#owner", OWNER_NAME)
            .expression_attribute_values(":me", text(me));
        locked(Box::pin(request.send()).await, "keeping the leader's lock")
    }

    async fn release_lock(&self, me: &str, version: &str) -> Result<(), Error> {
        let place = self.layout().lock;
        let request = self
            .prompt
            .delete_item()
            .table_name(place.table)
            .key(place.key, text(LEADER))
            .condition_expression("#version = :version AND #owner = :me")
            .expression_attribute_names("#version", VERSION)
            .expression_attribute_names("#owner", OWNER_NAME)
            .expression_attribute_values(":version", text(version))
            .expression_attribute_values(":me", text(me));
        match Box::pin(request.send()).await {
            Ok(_) => Ok(()),
            Err(error) => match error.as_service_error() {
                Some(refusal) if refusal.is_conditional_check_failed_exception() => Ok(()),
                _ => Err(Error::aws("giving the leader's lock back", error)),
            },
        }
    }
}

impl DynamoDbTable {
    fn update_lock(
        &self,
        condition: &str,
        version: &str,
        duration: Duration,
        seen: Option<&str>,
    ) -> aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder {
        let place = self.layout().lock;
        let request = self
            .prompt
            .update_item()
            .table_name(place.table)
            .key(place.key, text(LEADER))
            .condition_expression(condition)
            .expression_attribute_names("#duration", LEASE_DURATION)
            .expression_attribute_names("#version", VERSION)
            // A string, as the lock client has it.
            .expression_attribute_values(":duration", text(&duration.as_millis().to_string()))
            .expression_attribute_values(":version", text(version))
            .return_consumed_capacity(UNITS)
            .return_values_on_condition_check_failure(OnRefusal::AllOld);
        match seen {
            Some(seen) => request.expression_attribute_values(":seen", text(seen)),
            None => request,
        }
    }
}

fn locked(
    answer: Result<UpdateItemOutput, aws_sdk_dynamodb::error::SdkError<UpdateItemError>>,
    what: &str,
) -> Result<Locked, Error> {
    match answer {
        Ok(answer) => {
            count_units("beat", None, answer.consumed_capacity());
            Ok(Locked::Done)
        }
        Err(error) => match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(refusal)) => {
                Ok(Locked::Refused(refusal.item().and_then(LockRow::read)))
            }
            _ => Err(Error::aws(what, error)),
        },
    }
}
