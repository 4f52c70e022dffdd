//! A write as DynamoDB's condition and update expressions.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use kinesis_core::{HashKeyRange, Position, ShardId};

use crate::checkpoint::PendingCheckpoint;
use crate::lease::item::{self, shard_set};
use crate::lease::write::{Change, Demand, Owners, Set, Write};
#[cfg(feature = "mutations")]
use crate::mutation::{self, Mutation};

/// Both expressions with their placeholders. DynamoDB refuses a placeholder that is not used, so
/// each is added where it is written.
#[derive(Debug, Default)]
pub(super) struct Expression {
    pub(super) condition: String,
    pub(super) update: String,
    pub(super) names: HashMap<String, String>,
    pub(super) values: HashMap<String, AttributeValue>,
}

impl Expression {
    pub(super) fn of(write: &Write) -> Self {
        let mut expression = Self::default();
        let demands = expression.demands(&write.demand);
        expression.condition = demands.join(" AND ");
        expression.update = expression.changes(&write.demand, &write.change);
        expression
    }

    /// SET of `childShardIds` by the holder.
    pub(super) fn children(children: &BTreeSet<ShardId>, me: &str) -> Self {
        let mut expression = Self::default();
        expression.condition = expression.held_by(me);
        let name = expression.name(item::CHILDREN);
        let value = expression.value("children", shard_set(children));
        expression.update = format!("SET {name} = {value}");
        expression
    }

    /// SET of the hash keys, if the row is there and has none.
    pub(super) fn range(range: HashKeyRange) -> Self {
        let mut expression = Self::default();
        let (start, end) = (
            expression.name(item::RANGE_START),
            expression.name(item::RANGE_END),
        );
        let key = expression.name(item::LEASE_KEY);
        expression.condition = format!("attribute_exists({key}) AND attribute_not_exists({start})");
        let first = expression.text("first", &range.start().to_string());
        let last = expression.text("last", &range.end().to_string());
        expression.update = format!("SET {start} = {first}, {end} = {last}");
        expression
    }

    fn demands(&mut self, demand: &Demand) -> Vec<String> {
        let mut demands = Vec::new();
        match demand.counter {
            Some(counter) => {
                let name = self.name(item::COUNTER);
                let value = self.value("seen", item::number(counter));
                demands.push(format!("{name} = {value}"));
            }
            None => {
                let (key, checkpoint) = (self.name(item::LEASE_KEY), self.name(item::CHECKPOINT));
                let end = self.text("end", Position::ShardEnd.checkpoint());
                demands.push(format!("attribute_exists({key}) AND {checkpoint} <> {end}"));
            }
        }
        match &demand.owners {
            Owners::AsSeen {
                owner,
                checkpoint_owner,
            } => {
                demands.push(self.is(item::OWNER, "owner", owner.as_deref()));
                let old = checkpoint_owner.as_deref();
                demands.push(self.is(item::CHECKPOINT_OWNER, "checkpoint_owner", old));
            }
            Owners::HeldBy(me) => demands.push(self.held_by(me)),
        }
        demands
    }

    fn held_by(&mut self, me: &str) -> String {
        let (owner, old) = (self.name(item::OWNER), self.name(item::CHECKPOINT_OWNER));
        let me = self.text("me", me);
        format!("({old} = {me} OR ({owner} = {me} AND attribute_not_exists({old})))")
    }

    fn is(&mut self, attribute: &str, placeholder: &str, seen: Option<&str>) -> String {
        let name = self.name(attribute);
        match seen {
            Some(seen) => format!("{name} = {}", self.text(placeholder, seen)),
            None => format!("attribute_not_exists({name})"),
        }
    }

    fn changes(&mut self, demand: &Demand, change: &Change) -> String {
        let (mut set, mut remove) = (Vec::new(), Vec::new());
        if let Some(counter) = demand.counter {
            let next = self.value("next", item::number(counter.saturating_add(1)));
            set.push(format!("{} = {next}", self.name(item::COUNTER)));
        }
        for (attribute, placeholder, field) in [
            (item::OWNER, "new_owner", &change.owner),
            (
                item::CHECKPOINT_OWNER,
                "old_owner",
                &change.checkpoint_owner,
            ),
            (item::ACQUISITION, "acquisition", &change.acquisition),
        ] {
            match field {
                Set::Keep => {}
                Set::Remove => remove.push(self.name(attribute)),
                Set::To(value) => {
                    let value = self.text(placeholder, value);
                    set.push(format!("{} = {value}", self.name(attribute)));
                }
            }
        }
        if let Some(throughput) = change.throughput {
            let value = self.value("throughput", item::kbps(throughput));
            set.push(format!("{} = {value}", self.name(item::THROUGHPUT)));
        }
        if let Some(position) = &change.checkpoint {
            self.checkpoint(position, &mut set, &mut remove);
        }
        if let Some(pending) = &change.pending_checkpoint {
            self.pending(pending, &mut set, &mut remove);
        }
        let mut update = String::new();
        if !set.is_empty() {
            update = format!("SET {}", set.join(", "));
        }
        if !remove.is_empty() {
            update = format!("{update} REMOVE {}", remove.join(", "));
        }
        if change.owner_switch {
            let one = self.value("one", item::number(1));
            update = format!("{update} ADD {} {one}", self.name(item::OWNER_SWITCHES));
        }
        update.trim_start().to_owned()
    }

    fn checkpoint(&mut self, to: &Position, set: &mut Vec<String>, remove: &mut Vec<String>) {
        let position = self.text("position", to.checkpoint());
        set.push(format!("{} = {position}", self.name(item::CHECKPOINT)));
        let sub_sequence = self.value("sub_sequence", item::number(to.sub_sequence()));
        set.push(format!(
            "{} = {sub_sequence}",
            self.name(item::SUB_SEQUENCE)
        ));
        let zero = self.value("zero", item::number(0));
        set.push(format!("{} = {zero}", self.name(item::OWNER_SWITCHES)));
        #[cfg(feature = "mutations")]
        if mutation::is(Mutation::CheckpointLeavesPending) {
            return;
        }
        for pending in [
            item::PENDING,
            item::PENDING_SUB_SEQUENCE,
            item::PENDING_STATE,
        ] {
            remove.push(self.name(pending));
        }
    }

    fn pending(
        &mut self,
        pending: &PendingCheckpoint,
        set: &mut Vec<String>,
        remove: &mut Vec<String>,
    ) {
        let position = self.text("pending", pending.position.checkpoint());
        set.push(format!("{} = {position}", self.name(item::PENDING)));
        let sub_sequence = item::number(pending.position.sub_sequence());
        let sub_sequence = self.value("pending_sub_sequence", sub_sequence);
        let name = self.name(item::PENDING_SUB_SEQUENCE);
        set.push(format!("{name} = {sub_sequence}"));
        let name = self.name(item::PENDING_STATE);
        // As the KCL has it: no state, no attribute.
        if pending.state.is_empty() {
            remove.push(name);
        } else {
            let state = AttributeValue::B(pending.state.to_vec().into());
            let state = self.value("pending_state", state);
            set.push(format!("{name} = {state}"));
        }
    }

    fn name(&mut self, attribute: &str) -> String {
        let placeholder = format!("#{attribute}");
        self.names.insert(placeholder.clone(), attribute.to_owned());
        placeholder
    }

    fn text(&mut self, placeholder: &str, value: &str) -> String {
        self.value(placeholder, AttributeValue::S(value.to_owned()))
    }

    fn value(&mut self, placeholder: &str, value: AttributeValue) -> String {
        let placeholder = format!(":{placeholder}");
        self.values.insert(placeholder.clone(), value);
        placeholder
    }
}
