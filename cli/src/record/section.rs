//! A part of a record: words and texts at the offsets of the layout.

/// The bytes of one structure of the layout.
#[derive(Clone, Copy)]
pub struct Section<'a>(pub &'a [u8]);

impl<'a> Section<'a> {
    /// The structure of `size` bytes at `offset`.
    pub fn part(self, offset: usize, size: usize) -> Self {
        Self(&self.0[offset..offset + size])
    }

    /// The structures of `size` bytes in the array of `count` at `offset`.
    pub fn array(self, offset: usize, size: usize, count: usize) -> impl Iterator<Item = Self> {
        self.0[offset..offset + size * count]
            .chunks_exact(size)
            .map(Section)
    }

    /// The word at `offset`.
    pub fn word(self, offset: usize) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&self.0[offset..offset + 8]);
        u64::from_ne_bytes(word)
    }

    /// The text in `words` words at `offset`.
    pub fn text(self, offset: usize, words: usize) -> String {
        let bytes = self.0[offset..offset + 8 * words].split(|&byte| byte == 0);
        String::from_utf8_lossy(bytes.into_iter().next().unwrap_or_default()).into_owned()
    }
}

/// The word of a field: `word!(section, layout::Header, magic)`.
macro_rules! word {
    ($section:expr, $structure:ty, $field:ident) => {
        $section.word(core::mem::offset_of!($structure, $field))
    };
}

/// The text of a field, which has so many words.
macro_rules! text {
    ($section:expr, $structure:ty, $field:ident, $words:expr) => {
        $section.text(core::mem::offset_of!($structure, $field), $words)
    };
}

pub(super) use {text, word};
