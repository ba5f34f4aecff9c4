//! What the environment says of us.

use super::{
    spelling::nearest_name,
    variables::{MRLOCK, NAMES, Variable, shown},
};
use core::ffi::{CStr, c_char};
use log::warn;

/// So many unknown variables are named.
const MOST_UNKNOWN: usize = 4;

/// Our variables. The bytes are the environment's own.
pub(super) struct Environment {
    /// The value of each of `NAMES` that is set.
    values: [Option<&'static [u8]>; NAMES.len()],
    /// Other names that begin with `MRLOCK_`.
    unknown: [Option<&'static [u8]>; MOST_UNKNOWN],
    /// Whether there are more.
    has_more: bool,
    /// Whether any name begins like ours. In most processes none does.
    pub(super) has_any: bool,
}

unsafe extern "C" {
    static mut environ: *const *const c_char;
}

impl Environment {
    #[inline(never)]
    pub(super) fn scan() -> Self {
        let mut scanned = Self {
            values: [None; NAMES.len()],
            unknown: [None; MOST_UNKNOWN],
            has_more: false,
            has_any: false,
        };
        // SAFETY: null, or an array that a null pointer ends. As with any getenv(), a host that calls setenv() on another thread
        // at this moment has a race of its own.
        let mut next = unsafe { environ };
        // SAFETY: `next` is in the array, at or before the null pointer that ends it; each entry before that is a C string.
        while let Some(entry) = unsafe { next.as_ref().and_then(|entry| entry.as_ref()) } {
            // SAFETY: as above: it is a C string.
            scanned.add(unsafe { CStr::from_ptr(entry) }.to_bytes());
            // SAFETY: the entry at `next` is not the last pointer of the array.
            next = unsafe { next.add(1) };
        }
        scanned
    }

    /// Of two variables of one name, the first counts, as for getenv().
    fn add(&mut self, entry: &'static [u8]) {
        if !entry.starts_with(MRLOCK.name.as_bytes()) {
            return;
        }
        self.has_any = true;
        let mut parts = entry.splitn(2, |&byte| byte == b'=');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
            return;
        };
        if let Some(at) = NAMES.iter().position(|known| known.as_bytes() == name) {
            if let Some(slot) = self.values.get_mut(at) {
                slot.get_or_insert(value);
            }
        } else if name.starts_with(b"MRLOCK_") && !is_of_kubernetes(name) {
            let slot = self
                .unknown
                .iter_mut()
                .find(|slot| slot.is_none_or(|other| other == name));
            match slot {
                Some(slot) => *slot = Some(name),
                None => self.has_more = true,
            }
        }
    }

    /// The value of this variable, if it is not empty.
    pub(super) fn value(&self, name: &str) -> Option<&'static [u8]> {
        let at = NAMES.iter().position(|&known| known == name)?;
        let value = bare(self.values.get(at).copied().flatten()?);
        (!value.is_empty()).then_some(value)
    }

    /// What the variable says, or its default.
    #[inline(never)]
    pub(super) fn read<T>(&self, variable: Variable<T>, parse: fn(&[u8]) -> Option<T>) -> T {
        match self.value(variable.name) {
            None => variable.default.1,
            Some(given) => variable.understood(given, parse),
        }
    }

    pub(super) fn warn_of_unknown(&self) {
        for &name in self.unknown.iter().flatten() {
            let shown = shown(name);
            match nearest_name(name, &NAMES) {
                Some(known) => warn!("{shown}: unknown, ignored; did you mean {known}?"),
                None => warn!("{shown}: unknown, ignored; man 7 mrlock lists the variables"),
            }
        }
        if self.has_more {
            warn!(
                "more unknown variables that begin with MRLOCK_: ignored; man 7 mrlock lists the variables"
            );
        }
    }
}

/// Kubernetes gives such variables to the pods beside a service that is named mrlock.
fn is_of_kubernetes(name: &[u8]) -> bool {
    name.starts_with(b"MRLOCK_SERVICE_") || name.starts_with(b"MRLOCK_PORT")
}

/// The value without blanks and quotes around it: env files of docker keep quotes, and files from Windows end lines in `\r`.
fn bare(value: &[u8]) -> &[u8] {
    let mut value = value.trim_ascii();
    while let [first @ (b'"' | b'\''), inner @ .., last] = value
        && first == last
    {
        value = inner.trim_ascii();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_blanks_are_not_part_of_a_value() {
        for value in [
            "stderr",
            "\"stderr\"",
            "'stderr'\r",
            " stderr\t",
            "\"'stderr '\"\n",
        ] {
            assert_eq!(bare(value.as_bytes()), b"stderr", "{value:?}");
        }
        assert_eq!(bare(b"\"stderr'"), b"\"stderr'");
        assert_eq!((bare(b"\""), bare(b"\"\"")), (&b"\""[..], &b""[..]));
    }
}
