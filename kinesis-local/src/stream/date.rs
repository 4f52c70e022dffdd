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

    /// `Thu Dec 10 01:59:39 UTC 2015`
    pub(crate) fn long(self) -> String {
        let (weekday, month) = (WEEKDAYS[self.weekday], MONTHS[self.month - 1].0);
        format!(
            "{weekday} {month} {:02} {:02}:{:02}:{:02} UTC {}",
            self.day, self.hour, self.minute, self.second, self.year
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_at_their_edges() {
        let long = |epoch_ms| Utc::at(epoch_ms).long();
        assert_eq!(long(0), "Thu Jan 01 00:00:00 UTC 1970");
        assert_eq!(long(951_782_400_000), "Tue Feb 29 00:00:00 UTC 2000");
        assert_eq!(long(1_735_689_599_000), "Tue Dec 31 23:59:59 UTC 2024");
    }
}
