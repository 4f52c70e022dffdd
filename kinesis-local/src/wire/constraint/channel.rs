//! The constraints of channels alone.

use std::fmt::Display;

use super::{ARN_MAX_CHARS, Constraints, at_least_long, at_most_long, is_arn_of, pattern};

/// Longest ARN of a role or schema, log group and log stream. Source: API model.
const NAME_MAX_CHARS: usize = 512;
/// Longest template of a key. Source: API model.
const TEMPLATE_MAX_CHARS: usize = 1024;
/// Longest name in S3 Tables. Source: API model.
const TABLE_NAME_MAX_CHARS: usize = 255;
/// Digits of an account. Source: API model.
const OWNER_CHARS: usize = 12;

const CHANNEL_ARN: &str = "arn:aws.*:kinesis:.*:\\d{12}:channel/\\S+";
const ROLE_ARN: &str = "arn:aws[-a-z0-9]*:iam::\\d{12}:role/[a-zA-Z_0-9+=,.@\\-_/]+";
const SCHEMA_ARN: &str =
    "arn:aws[-a-z0-9]*:glue:[-a-z0-9]+:\\d{12}:schema/[-a-zA-Z0-9_$#.]+/[-a-zA-Z0-9_$#.]+";
const BUCKET_ARN: &str = "arn:aws[-a-z0-9]*:s3:::[a-z0-9._-]{3,63}";
const TABLE_BUCKET_ARN: &str =
    "arn:aws[-a-z0-9]*:s3tables:[-a-z0-9]+:\\d{12}:bucket/[a-z0-9_-]{3,63}";

/// Characters that the model allows, by its pattern.
#[derive(Copy, Clone, Debug)]
struct Characters {
    pattern: &'static str,
    allowed: fn(char) -> bool,
    max: usize,
}

const ERROR_PREFIX: Characters = Characters {
    pattern: "[0-9A-Za-z!\\-_'.*()\\/]+",
    allowed: |c| c.is_ascii_alphanumeric() || "!-_'.*()/".contains(c),
    max: NAME_MAX_CHARS,
};
const TEMPLATE: Characters = Characters {
    pattern: "[0-9A-Za-z!\\-_'.*()\\/=:{}]+",
    allowed: |c| c.is_ascii_alphanumeric() || "!-_'.*()/=:{}".contains(c),
    max: TEMPLATE_MAX_CHARS,
};
const TABLE_NAME: Characters = Characters {
    pattern: "[0-9a-z_]+",
    allowed: |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_',
    max: TABLE_NAME_MAX_CHARS,
};
const COLUMN: Characters = Characters {
    pattern: "[a-zA-Z0-9\\.\\_]+",
    allowed: |c| c.is_ascii_alphanumeric() || "._".contains(c),
    max: TABLE_NAME_MAX_CHARS,
};
const LOG_GROUP: Characters = Characters {
    pattern: "[\\.\\-_/#A-Za-z0-9]+",
    allowed: |c| c.is_ascii_alphanumeric() || ".-_/#".contains(c),
    max: NAME_MAX_CHARS,
};
const LOG_STREAM: Characters = Characters {
    pattern: "[^:*]*",
    allowed: |c| !":*".contains(c),
    max: NAME_MAX_CHARS,
};

impl Constraints {
    pub(crate) fn channel_name(&mut self, value: Option<&str>) {
        self.present(value.is_some(), "channelName");
        self.name("channelName", value);
    }

    /// A channel's ARN, which has to be there.
    pub(crate) fn channel_arn(&mut self, value: Option<&str>) {
        let is = |value: &str| is_arn_of(value, ":channel/");
        self.present(value.is_some(), "channelARN");
        self.like("channelARN", value, is, CHANNEL_ARN, ARN_MAX_CHARS);
    }

    pub(crate) fn role_arn(&mut self, path: &str, value: Option<&str>) {
        let is = |value: &str| {
            arn(value, "iam", |region| region.is_empty()).is_some_and(|(account, rest)| {
                let name = rest.strip_prefix("role/");
                is_account(account)
                    && name.is_some_and(|name| {
                        let allowed = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-/".contains(c);
                        !name.is_empty() && name.chars().all(allowed)
                    })
            })
        };
        self.like(path, value, is, ROLE_ARN, NAME_MAX_CHARS);
    }

    pub(crate) fn schema_arn(&mut self, path: &str, value: Option<&str>) {
        let is = |value: &str| {
            arn(value, "glue", is_region).is_some_and(|(account, rest)| {
                let names = rest
                    .strip_prefix("schema/")
                    .and_then(|it| it.split_once('/'));
                let allowed = |c: char| c.is_ascii_alphanumeric() || "-_$#.".contains(c);
                let fits = |name: &str| !name.is_empty() && name.chars().all(allowed);
                is_account(account) && names.is_some_and(|(one, two)| fits(one) && fits(two))
            })
        };
        self.like(path, value, is, SCHEMA_ARN, NAME_MAX_CHARS);
    }

    pub(crate) fn bucket_arn(&mut self, path: impl Display, value: Option<&str>) {
        let is = |value: &str| {
            arn(value, "s3", |region| region.is_empty()).is_some_and(|(account, name)| {
                let allowed = |c: char| is_bucket_char(c) || c == '.';
                account.is_empty() && (3..=63).contains(&name.len()) && name.chars().all(allowed)
            })
        };
        self.present(value.is_some(), &path);
        self.like(path, value, is, BUCKET_ARN, ARN_MAX_CHARS);
    }

    pub(crate) fn table_bucket_arn(&mut self, path: impl Display, value: Option<&str>) {
        let is = |value: &str| {
            arn(value, "s3tables", is_region).is_some_and(|(account, rest)| {
                let name = rest.strip_prefix("bucket/").unwrap_or_default();
                is_account(account)
                    && (3..=63).contains(&name.len())
                    && name.chars().all(is_bucket_char)
            })
        };
        self.present(value.is_some(), &path);
        self.like(path, value, is, TABLE_BUCKET_ARN, ARN_MAX_CHARS);
    }

    /// The account that owns a bucket, which has to be there.
    pub(crate) fn bucket_owner(&mut self, path: impl Display, value: Option<&str>) {
        self.present(value.is_some(), &path);
        let Some(value) = value else { return };
        self.check(is_account(value), &path, value, pattern("\\d{12}"));
        let chars = value.chars().count();
        self.check(
            chars >= OWNER_CHARS,
            &path,
            value,
            at_least_long(OWNER_CHARS),
        );
        self.check(
            chars <= OWNER_CHARS,
            &path,
            value,
            at_most_long(OWNER_CHARS),
        );
    }

    pub(crate) fn error_prefix(&mut self, path: impl Display, value: Option<&str>) {
        self.characters(path, value, ERROR_PREFIX);
    }

    pub(crate) fn key_template(&mut self, path: &str, value: Option<&str>) {
        self.characters(path, value, TEMPLATE);
    }

    /// A name in S3 Tables, which has to be there.
    pub(crate) fn table_name(&mut self, path: impl Display, value: Option<&str>) {
        self.present(value.is_some(), &path);
        self.characters(path, value, TABLE_NAME);
    }

    /// A column's name, which has to be there.
    pub(crate) fn column(&mut self, path: impl Display, value: Option<&str>) {
        self.present(value.is_some(), &path);
        self.characters(path, value, COLUMN);
    }

    pub(crate) fn log_group(&mut self, path: &str, value: Option<&str>) {
        self.characters(path, value, LOG_GROUP);
    }

    pub(crate) fn log_stream(&mut self, path: &str, value: Option<&str>) {
        self.characters(path, value, LOG_STREAM);
    }

    fn characters(&mut self, path: impl Display, value: Option<&str>, allowed: Characters) {
        let may_be_empty = allowed.pattern.ends_with('*');
        let is =
            |value: &str| value.chars().all(allowed.allowed) && (may_be_empty || !value.is_empty());
        self.like(path, value, is, allowed.pattern, allowed.max);
    }

    fn like(
        &mut self,
        path: impl Display,
        value: Option<&str>,
        is: impl FnOnce(&str) -> bool,
        as_pattern: &'static str,
        max: usize,
    ) {
        let Some(value) = value else { return };
        self.check(is(value), &path, value, pattern(as_pattern));
        self.length(path, value, 1, max);
    }
}

/// The account and what follows it in an ARN of `service`, in a region that fits.
fn arn<'a>(
    text: &'a str,
    service: &str,
    region: impl FnOnce(&str) -> bool,
) -> Option<(&'a str, &'a str)> {
    let rest = text.strip_prefix("arn:aws")?;
    let mut parts = rest.splitn(5, ':');
    let (partition, of, place) = (parts.next()?, parts.next()?, parts.next()?);
    let fits = partition.chars().all(is_region_char) && of == service && region(place);
    let (account, rest) = (parts.next()?, parts.next()?);
    fits.then_some((account, rest))
}

fn is_region(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_region_char)
}

fn is_region_char(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

fn is_bucket_char(c: char) -> bool {
    is_region_char(c) || c == '_'
}

fn is_account(text: &str) -> bool {
    text.len() == OWNER_CHARS && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(check: impl FnOnce(&mut Constraints)) -> bool {
        let mut constraints = Constraints::default();
        check(&mut constraints);
        constraints.done().is_ok()
    }

    #[test]
    fn arns_of_other_services_are_told_from_other_texts() {
        let role = |text| holds(|constraints| constraints.role_arn("a", Some(text)));
        assert!(role("arn:aws:iam::000000000000:role/path/to+role"));
        assert!(role("arn:aws-cn:iam::000000000000:role/r"));
        assert!(!role("arn:aws:iam::000000000000:user/r"));
        assert!(!role("arn:aws:iam:us-east-1:000000000000:role/r"));
        let bucket = |text| holds(|constraints| constraints.bucket_arn("a", Some(text)));
        assert!(bucket("arn:aws:s3:::my.bucket_1"));
        assert!(!bucket("arn:aws:s3:::my/bucket") && !bucket("arn:aws:s3:::b"));
        let schema = |text| holds(|constraints| constraints.schema_arn("a", Some(text)));
        assert!(schema(
            "arn:aws:glue:us-east-1:000000000000:schema/registry/name"
        ));
        assert!(!schema(
            "arn:aws:glue:us-east-1:000000000000:schema/registry"
        ));
        let table = |text| holds(|constraints| constraints.table_bucket_arn("a", Some(text)));
        assert!(table(
            "arn:aws:s3tables:us-east-1:000000000000:bucket/tables"
        ));
        assert!(!table("arn:aws:s3tables::000000000000:bucket/tables"));
    }
}
