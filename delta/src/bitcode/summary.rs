//! Records of a module's summary, or of that of several.

use super::forms::Form;
use super::index::Index;

/// What the next value of a record is; `next` is the number of the next value.
pub(super) fn form(record: &[u64], next: u64, index: Option<&Index>) -> Form {
    let at = record.len();
    if let Some(index) = index {
        match (record[0], at) {
            (4..=6 | 16, 1) => return Form::Near(index.next_number(record[0])),
            (16, 2) => return Form::Near(index.next_hash()),
            (9, 1) => return Form::Near(index.last_name()),
            _ => {}
        }
    }
    let value = if index.is_some() { Form::Entry } else { Form::Value };
    let counted = |count: usize, refs: usize, is_paired: bool| {
        // Values from `refs` on, the first of which stand alone.
        let count = record.get(count).and_then(|count| usize::try_from(*count).ok()).unwrap_or(0);
        let behind = at.checked_sub(refs);
        match behind {
            None if at == 1 => value,
            Some(behind) if behind < count || !is_paired || (behind - count).is_multiple_of(2) => value,
            _ => Form::Plain,
        }
    };
    match record[0] {
        1 => counted(5, 8, false),
        2 | 19 => counted(5, 8, true),
        3 => counted(0, 4, false),
        4 if at == 2 => Form::Module,
        5 if at == 2 => Form::Module,
        6 if at == 2 => Form::Module,
        4 => counted(7, 10, false),
        5 => counted(7, 10, true),
        6 => counted(0, 5, false),
        7 if at == 1 || at == 3 => Form::Value,
        8 if at == 1 || at == 4 => Form::Value,
        16 if at == 1 => Form::Near(next),
        16 => Form::Word,
        _ => Form::Plain,
    }
}
