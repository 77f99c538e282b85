//! What the database says, in the store's words.

use hub_actors::ports::StoreError;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

/// No connection, or none in time.
pub(super) fn unavailable(text: impl Into<String>) -> StoreError {
    StoreError::Unavailable(text.into())
}

/// Classes of SQLSTATE (PostgreSQL manual, appendix A) that blame the values: cardinality, data, integrity, program limit
/// (an index entry that is too large), raised by a function. All others blame the moment or the installation.
const CLASSES_OF_THE_VALUES: [&str; 5] = ["21", "22", "23", "54", "P0"];

/// `Failed` when the values are to blame, so that the statement will never work with them; else `Unavailable`.
///
/// The message and the constraint's name are kept; the detail is not, because it quotes values of the row.
pub(super) fn classify(error: &tokio_postgres::Error) -> StoreError {
    if let Some(database) = error.as_db_error() {
        let code = database.code().code();
        let constraint = database
            .constraint()
            .map(|name| format!(" ({name})"))
            .unwrap_or_default();
        let text = format!("{}{constraint}, SQLSTATE {code}", database.message());
        return if CLASSES_OF_THE_VALUES.iter().any(|class| code.starts_with(class)) {
            StoreError::Failed(text)
        } else {
            StoreError::Unavailable(text)
        };
    }
    let cause = std::error::Error::source(error);
    let is_io = cause.is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
    let text = cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
    if error.is_closed() || is_io {
        StoreError::Unavailable(text)
    } else {
        StoreError::Failed(text)
    }
}

/// True when another transaction was in the way: a deadlock or a failure to serialize (class 40), or a lock that was not
/// free in time.
pub(super) fn is_contended(error: &tokio_postgres::Error) -> bool {
    let code = error.code().map(tokio_postgres::error::SqlState::code);
    code.is_some_and(|code| code.starts_with("40") || code == "55P03")
}

/// Reads a column.
pub(super) fn read<'row, T: FromSql<'row>>(row: &'row Row, column: usize) -> Result<T, StoreError> {
    row.try_get(column).map_err(|error| classify(&error))
}

/// Reads a column that holds one of an enumeration's names.
pub(super) fn read_name<T>(row: &Row, column: usize, from_name: impl Fn(&str) -> Option<T>) -> Result<T, StoreError> {
    let name: &str = read(row, column)?;
    from_name(name).ok_or_else(|| StoreError::Failed(format!("the database holds an unknown name: {name}")))
}
