//! What a misspelt name or word was meant to be.

/// The one of `names`, all of which begin with `MRLOCK`, that is as good as certainly meant: one edit for each three letters behind
/// `MRLOCK_` may be needed.
pub(super) fn nearest_name(name: &[u8], names: &[&'static str]) -> Option<&'static str> {
    let is_near = |known: &str, edits| {
        let own = known.len().saturating_sub("MRLOCK_".len());
        edits * 3 <= own && is_within(edits, known.as_bytes(), name)
    };
    (0..=3).find_map(|edits| names.iter().copied().find(|known| is_near(known, edits)))
}

/// The first of `words` that is at most one edit away from `value`.
pub(super) fn near_word(value: &[u8], words: &[&'static str]) -> Option<&'static str> {
    let within = |edits| {
        let mut words = words.iter().copied();
        words.find(|word| is_within(edits, word.as_bytes(), value))
    };
    within(0).or_else(|| within(1))
}

/// Whether so many edits make `to` of `from`: a letter more, less, changed, or exchanged with the next. The case does not count.
fn is_within(edits: usize, mut from: &[u8], mut to: &[u8]) -> bool {
    while let ([a, from_rest @ ..], [b, to_rest @ ..]) = (from, to)
        && a.eq_ignore_ascii_case(b)
    {
        (from, to) = (from_rest, to_rest);
    }
    if from.is_empty() && to.is_empty() {
        return true;
    }
    let Some(edits) = edits.checked_sub(1) else {
        return false;
    };
    let shorter = |text| <[u8]>::get(text, 1..).unwrap_or_default();
    if let ([a, b, from @ ..], [c, d, to @ ..]) = (from, to)
        && a.eq_ignore_ascii_case(d)
        && b.eq_ignore_ascii_case(c)
        && is_within(edits, from, to)
    {
        return true;
    }
    is_within(edits, shorter(from), shorter(to))
        || is_within(edits, shorter(from), to)
        || is_within(edits, from, shorter(to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::settings::{value::NO_FILE_NAMES, variables::NAMES};

    #[test]
    fn a_name_that_is_near() {
        for (name, known) in [
            ("MRLOCK_MEMROY", Some("MRLOCK_MEMORY")),
            ("MRLOCK_memory", Some("MRLOCK_MEMORY")),
            ("MRLOCK_EVENT", Some("MRLOCK_EVENTS")),
            ("MRLOCK_LOGS", Some("MRLOCK_LOG")),
            ("MRLOCK_WARNAFTR", Some("MRLOCK_WARN_AFTER")),
            ("MRLOCK_MODE", None),
            ("MRLOCK_", None),
            ("MRLOCK_LOUD", None),
        ] {
            assert_eq!(nearest_name(name.as_bytes(), &NAMES), known, "{name}");
        }
    }

    #[test]
    fn a_word_that_is_near() {
        for (value, word) in [
            ("stdrr", Some("stderr")),
            ("STDOT", Some("stdout")),
            ("stdrer", Some("stderr")),
            ("of", Some("off")),
            ("no-such-word", None),
            ("./stdrr", None),
        ] {
            assert_eq!(near_word(value.as_bytes(), &NO_FILE_NAMES), word, "{value}");
        }
    }
}
