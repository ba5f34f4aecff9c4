//! Text in a buffer of fixed size, because nothing may allocate.

use core::{
    ffi::CStr,
    fmt::{self, Write},
};

/// Up to `N` bytes of text. What does not fit is left out; the text before it stays.
pub struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
    is_cut: bool,
}

impl<const N: usize> Text<N> {
    /// No text yet.
    pub const fn new() -> Self {
        Self {
            bytes: [0; N],
            length: 0,
            is_cut: false,
        }
    }

    /// `arguments` as text, for a column that has to be padded.
    pub fn from(arguments: fmt::Arguments) -> Self {
        let mut text = Self::new();
        let _ = text.write_fmt(arguments);
        text
    }

    /// Removes all text.
    pub fn clear(&mut self) {
        self.length = 0;
        self.is_cut = false;
    }

    /// Adds one byte.
    pub fn push(&mut self, byte: u8) {
        match self.bytes.get_mut(self.length) {
            Some(slot) => {
                *slot = byte;
                self.length += 1;
            }
            None => self.is_cut = true,
        }
    }

    /// Removes the last byte.
    pub fn pop(&mut self) {
        self.length = self.length.saturating_sub(1);
    }

    /// What was written so far.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Whether everything that was written has fitted.
    pub fn is_complete(&self) -> bool {
        !self.is_cut
    }

    /// Ends the text with a newline, which replaces the last byte if the buffer is full.
    pub fn end_line(&mut self) {
        self.length = self.length.min(N.saturating_sub(1));
        self.push(b'\n');
    }
}

impl<const N: usize> Write for Text<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.push(byte));
        Ok(())
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.pad(core::str::from_utf8(self.as_bytes()).unwrap_or("?"))
    }
}

/// `text`, which ends with NUL, as a C string. Evaluated by the compiler only.
pub const fn as_c_str(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("a NUL inside or none at the end"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_fits_and_says_whether_all_did() {
        let mut text = Text::<5>::new();
        write!(text, "{}-{}", 12, 34).unwrap();
        assert_eq!((text.as_bytes(), text.is_complete()), (&b"12-34"[..], true));
        write!(text, "5").unwrap();
        assert_eq!(
            (text.as_bytes(), text.is_complete()),
            (&b"12-34"[..], false)
        );
    }

    #[test]
    fn ends_a_line_that_is_full() {
        let mut text = Text::<4>::from(format_args!("abcdef"));
        text.end_line();
        assert_eq!(text.as_bytes(), b"abc\n");
    }
}
