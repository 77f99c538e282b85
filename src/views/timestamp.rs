//! Instants as the API writes them.

use serde::{Serialize, Serializer};
use time::{OffsetDateTime, UtcOffset};

/// Written as RFC 3339 in UTC, always with six digits of fraction and a `Z`: `2026-01-02T03:04:05.678901Z`.
///
/// The fixed width makes the texts sort like the instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp(pub OffsetDateTime);

const TEMPLATE: [u8; 27] = *b"0000-00-00T00:00:00.000000Z";

impl Timestamp {
    fn text(self) -> [u8; 27] {
        let mut text = TEMPLATE;
        let moment = self.0.to_offset(UtcOffset::UTC);
        // RFC 3339 knows four digits and no sign.
        let year = u32::try_from(moment.year().clamp(0, 9999)).unwrap_or_default();
        put(&mut text[0..4], year);
        put(&mut text[5..7], u32::from(u8::from(moment.month())));
        put(&mut text[8..10], u32::from(moment.day()));
        put(&mut text[11..13], u32::from(moment.hour()));
        put(&mut text[14..16], u32::from(moment.minute()));
        put(&mut text[17..19], u32::from(moment.second()));
        put(&mut text[20..26], moment.microsecond());
        text
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

fn put(digits: &mut [u8], mut value: u32) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn json(moment: OffsetDateTime) -> String {
        serde_json::to_string(&Timestamp(moment)).unwrap()
    }

    #[test]
    fn it_is_utc_with_six_digits() {
        let moment = datetime!(2026-01-02 03:04:05.678901 UTC);
        assert_eq!(json(moment), r#""2026-01-02T03:04:05.678901Z""#);
        assert_eq!(json(datetime!(2026-01-02 01:30 +2)), r#""2026-01-01T23:30:00.000000Z""#);
    }

    #[test]
    fn it_reads_back_as_the_same_instant() {
        let moment = datetime!(1999-12-31 23:59:59.000001 UTC);
        let text: String = serde_json::from_str(&json(moment)).unwrap();
        let parsed = OffsetDateTime::parse(&text, &time::format_description::well_known::Rfc3339);
        assert_eq!(parsed.unwrap(), moment);
    }
}
