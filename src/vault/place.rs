//! Where a sealed value lives.

use hub_actors::{Seq, UserId};

/// The row and column of a sealed value. It is bound into the seal, so a value copied to another place does not open.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The table's name.
    pub table: &'static str,
    /// The column's name.
    pub column: &'static str,
    /// The row's key: the bytes of its UUID, or for events what [`Place::event_row`] makes.
    pub row: &'a [u8],
}

impl Place<'_> {
    /// The row key of an event: its user's UUID, then its number, big-endian.
    pub fn event_row(user: UserId, seq: Seq) -> [u8; 24] {
        let mut row = [0; 24];
        row[..16].copy_from_slice(user.0.as_bytes());
        row[16..].copy_from_slice(&seq.0.to_be_bytes());
        row
    }

    /// The additional data that the seal authenticates.
    pub(super) fn associated_data(&self) -> Vec<u8> {
        let mut data = Vec::with_capacity(self.table.len() + self.column.len() + self.row.len() + 2);
        data.extend_from_slice(self.table.as_bytes());
        data.push(b'.');
        data.extend_from_slice(self.column.as_bytes());
        data.push(b':');
        data.extend_from_slice(self.row);
        data
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_event_row_holds_user_and_number() {
        let row = Place::event_row(UserId(Uuid::from_u128(1)), Seq(258));
        assert_eq!(&row[..16], Uuid::from_u128(1).as_bytes());
        assert_eq!(&row[16..], &[0, 0, 0, 0, 0, 0, 1, 2]);
    }

    #[test]
    fn the_associated_data_names_table_column_and_row() {
        let place = Place {
            table: "messages",
            column: "content",
            row: &[7, 8],
        };
        assert_eq!(place.associated_data(), b"messages.content:\x07\x08");
    }
}
