//! The ids of what hangs on a stream and has an ARN of its own: queues and channels.
//!
//! ```text
//! 0000000000000007-1f9c3b5a77d2e401, written as a UUID: 00000000-0000-0007-1f9c-3b5a77d2e401
//! └ the stream     └ chance
//! ```
//! Promises: an id leads to its stream without an index; it is not made of the name, so a name that
//! is used again leads to another id.

use std::fmt::{self, Display};

use crate::place::Place;

/// Which queue or channel, and on which stream.
#[derive(Copy, Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct AttachedId {
    /// The id of the stream.
    pub(crate) stream: u64,
    pub(crate) own: u64,
}

impl AttachedId {
    /// Where it is and which it is, in an ARN of its kind (`queue`, `channel`).
    pub(crate) fn in_arn(arn: &str, kind: &str) -> Option<(Place, Self)> {
        let (before, id) = arn.split_once(&format!(":{kind}/"))?;
        let mut place = before.rsplit(':');
        let (account, region) = (place.next()?, place.next()?);
        Some((Place::new(account, region), Self::parse(id)?))
    }

    /// Its ARN as one of this kind.
    pub(crate) fn arn(self, kind: &str, place: &Place) -> String {
        let (region, account) = (&place.region, &place.account);
        format!("arn:aws:kinesis:{region}:{account}:{kind}/{self}")
    }

    /// The id in a text; `None`: none of ours.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let hex: String = text.split('-').collect();
        let id = Self {
            stream: u64::from_str_radix(hex.get(..16)?, 16).ok()?,
            own: u64::from_str_radix(hex.get(16..)?, 16).ok()?,
        };
        (id.to_string() == text).then_some(id)
    }
}

impl Display for AttachedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stream, own) = (self.stream, self.own);
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            stream >> 32,
            stream >> 16 & 0xffff,
            stream & 0xffff,
            own >> 48,
            own & 0xffff_ffff_ffff
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_written_as_a_uuid_and_read_back() {
        let id = AttachedId {
            stream: 7,
            own: 0x1f9c_3b5a_77d2_e401,
        };
        assert_eq!(id.to_string(), "00000000-0000-0007-1f9c-3b5a77d2e401");
        assert_eq!(AttachedId::parse(&id.to_string()), Some(id));
        let place = Place::new("111122223333", "eu-west-1");
        let arn = id.arn("queue", &place);
        assert_eq!(
            arn,
            "arn:aws:kinesis:eu-west-1:111122223333:queue/00000000-0000-0007-1f9c-3b5a77d2e401"
        );
        assert_eq!(AttachedId::in_arn(&arn, "queue"), Some((place, id)));
        assert_eq!(AttachedId::in_arn(&arn, "channel"), None);
        for text in ["", "7", "00000000-0000-0007-1f9c-3b5a77d2e40", "ü"] {
            assert_eq!(AttachedId::parse(text), None, "{text}");
        }
    }
}
