//! Dates in UTC, as texts of the service need them.

/// An instant, taken apart.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct Utc {
    pub(crate) year: u64,
    /// From 1 on.
    pub(crate) month: usize,
    /// From 1 on.
    pub(crate) day: u64,
    pub(crate) hour: u64,
    pub(crate) minute: u64,
    pub(crate) second: u64,
    /// From Thursday, the first day of 1970, on.
    weekday: usize,
}

const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [(&str, u64); 12] = [
    ("Jan", 31),
    ("Feb", 28),
    ("Mar", 31),
    ("Apr", 30),
    ("May", 31),
    ("Jun", 30),
    ("Jul", 31),
    ("Aug", 31),
    ("Sep", 30),
    ("Oct", 31),
    ("Nov", 30),
    ("Dec", 31),
];

impl Utc {
    /// Milliseconds since the Unix epoch.
    pub(crate) fn at(epoch_ms: u64) -> Self {
        let is_leap = |year: u64| {
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
        };
        let seconds = epoch_ms / 1000;
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (mut year, mut day) = (1970, days);
        loop {
            let length = if is_leap(year) { 366 } else { 365 };
            if day < length {
                break;
            }
            day -= length;
            year += 1;
        }
        let mut month = 0;
        for (at, (name, length)) in (1..).zip(MONTHS) {
            let leap_day = u64::from(name == "Feb" && is_leap(year));
            month = at;
            if day < length + leap_day {
                break;
            }
            day -= length + leap_day;
        }
        Self {
            year,
            month,
            day: day + 1,
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
            weekday: (days % 7) as usize,
        }
    }

    /// `20261123T020000Z`
    pub(crate) fn basic(self) -> String {
        format!(
            "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
            self.year, self.month, self.day, self.hour, self.minute, self.second
        )
    }

    /// `Thu, 10 Dec 2015 01:59:39 GMT`, as the header `Date` has it.
    pub(crate) fn http(self) -> String {
        let (weekday, month) = (WEEKDAYS[self.weekday], MONTHS[self.month - 1].0);
        format!(
            "{weekday}, {:02} {month} {} {:02}:{:02}:{:02} GMT",
            self.day, self.year, self.hour, self.minute, self.second
        )
    }

    /// `Thu Dec 10 01:59:39 UTC 2015`
    pub(crate) fn long(self) -> String {
        let (weekday, month) = (WEEKDAYS[self.weekday], MONTHS[self.month - 1].0);
        format!(
            "{weekday} {month} {:02} {:02}:{:02}:{:02} UTC {}",
            self.day, self.hour, self.minute, self.second, self.year
        )
    }
}

/// Seconds since the Unix epoch of `20261123T020000Z`; `None` for what no clock shows.
pub(crate) fn epoch_seconds(basic: &str) -> Option<u64> {
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = basic.get(from..to)?;
        let all = digits.bytes().all(|byte| byte.is_ascii_digit());
        all.then(|| digits.parse().ok())?
    };
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
    // Days from civil, with the year beginning in March.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year.checked_sub(1)?, month + 9)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    let days = days.checked_sub(719_469)?;
    let epoch_s = days * 86_400 + hour * 3600 + minute * 60 + second;
    // Which days and minutes there are, the way back knows.
    (Utc::at(epoch_s * 1000).basic() == basic).then_some(epoch_s)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_are_right_at_their_edges() {
        let long = |epoch_ms| Utc::at(epoch_ms).long();
        assert_eq!(long(0), "Thu Jan 01 00:00:00 UTC 1970");
        assert_eq!(long(951_782_400_000), "Tue Feb 29 00:00:00 UTC 2000");
        assert_eq!(long(1_735_689_599_000), "Tue Dec 31 23:59:59 UTC 2024");
        let http = |epoch_ms| Utc::at(epoch_ms).http();
        assert_eq!(http(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http(784_111_777_999), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn times_are_read_and_written_at_their_edges() {
        for (text, epoch_s) in [
            ("19700101T000000Z", 0),
            ("20000229T000000Z", 951_782_400),
            ("20241231T235959Z", 1_735_689_599),
            ("20261123T020000Z", 1_795_399_200),
        ] {
            assert_eq!(epoch_seconds(text), Some(epoch_s), "{text}");
            assert_eq!(Utc::at(epoch_s * 1000).basic(), text);
        }
        for bad in [
            "",
            "20261123",
            "19691231T235959Z",
            "20261323T000000Z",
            "20260015T000000Z",
            "20260229T000000Z",
            "20260100T000000Z",
            "20261123T240000Z",
            "20261123T006000Z",
            "20261123T000060Z",
            "20261123T000000Z0",
            "2026112éT00000Z",
            "+0261123T000000Z",
        ] {
            assert_eq!(epoch_seconds(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_second_is_written_and_read_back(epoch_s in 0_u64..250_000_000_000) {
            prop_assert_eq!(epoch_seconds(&Utc::at(epoch_s * 1000).basic()), Some(epoch_s));
        }
    }
}
