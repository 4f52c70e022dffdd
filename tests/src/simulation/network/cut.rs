//! What does not come through a network: several cuts at a time, each until it is lifted.

/// What of a network is cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cut {
    /// Nothing comes through.
    Everything,
    /// Calls of this service do not, such as `DynamoDB`.
    Service(&'static str),
    /// Calls of this operation do not, such as `DynamoDB.UpdateItem`.
    Operation(&'static str),
}

impl Cut {
    /// One service alone.
    pub const SERVICES: [Self; 2] = [Self::Service("DynamoDB"), Self::Service("Kinesis")];

    /// One operation of those that workers live on.
    pub const OPERATIONS: [Self; 9] = [
        Self::Operation("DynamoDB.UpdateItem"),
        Self::Operation("DynamoDB.PutItem"),
        Self::Operation("DynamoDB.GetItem"),
        Self::Operation("DynamoDB.Scan"),
        Self::Operation("DynamoDB.Query"),
        Self::Operation("DynamoDB.DescribeTable"),
        Self::Operation("Kinesis.ListShards"),
        Self::Operation("Kinesis.GetRecords"),
        Self::Operation("Kinesis.GetShardIterator"),
    ];

    fn holds(self, operation: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Service(service) => {
                let of = operation.split_once('.');
                of.is_some_and(|(of, _)| of == service)
            }
            Self::Operation(cut) => operation == cut,
        }
    }
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Everything => f.write_str("everything"),
            Self::Service(what) | Self::Operation(what) => f.write_str(what),
        }
    }
}

/// One cut of a network, to lift it by.
#[derive(Debug, Eq, PartialEq)]
pub struct Made(u64);

/// The cuts of one network. They overlap: what one of them holds does not come through.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    made: u64,
    held: Vec<(u64, Cut)>,
}

impl Cuts {
    pub(super) fn make(&mut self, cut: Cut) -> Made {
        self.made += 1;
        self.held.push((self.made, cut));
        Made(self.made)
    }

    /// Whether there still was such a cut.
    pub(super) fn lift(&mut self, Made(made): Made) -> bool {
        let before = self.held.len();
        self.held.retain(|(number, _)| *number != made);
        self.held.len() < before
    }

    pub(super) fn lift_all(&mut self) {
        self.held.clear();
    }

    /// Whether calls of this operation do not come through.
    pub(super) fn hold(&self, operation: &str) -> bool {
        self.held.iter().any(|(_, cut)| cut.holds(operation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: &str = "DynamoDB.UpdateItem";
    const READ: &str = "Kinesis.GetRecords";

    #[test]
    fn a_cut_holds_its_service_its_operation_or_everything() {
        let holds = |cut| {
            let mut cuts = Cuts::default();
            cuts.make(cut);
            [WRITE, READ].map(|operation| cuts.hold(operation))
        };
        assert_eq!(holds(Cut::Everything), [true, true]);
        assert_eq!(holds(Cut::Service("DynamoDB")), [true, false]);
        assert_eq!(holds(Cut::Operation(READ)), [false, true]);
    }

    #[test]
    fn a_cut_that_is_lifted_leaves_the_others_that_were_made_meanwhile() {
        let mut cuts = Cuts::default();
        let first = cuts.make(Cut::Everything);
        let second = cuts.make(Cut::Service("DynamoDB"));
        let third = cuts.make(Cut::Service("DynamoDB"));
        assert!(cuts.lift(first));
        assert!(cuts.hold(WRITE) && !cuts.hold(READ), "the second holds on");
        assert!(cuts.lift(third));
        assert!(cuts.hold(WRITE), "one of two that are alike");
        assert!(cuts.lift(second));
        assert!(!cuts.hold(WRITE));
    }

    #[test]
    fn a_cut_that_was_lifted_with_all_others_is_not_lifted_again() {
        let mut cuts = Cuts::default();
        let before = cuts.make(Cut::Everything);
        cuts.lift_all();
        assert!(!cuts.hold(WRITE));
        let after = cuts.make(Cut::Everything);
        assert!(!cuts.lift(before), "its time is over, and it is gone");
        assert!(cuts.hold(WRITE), "another one holds");
        assert!(cuts.lift(after));
    }
}
