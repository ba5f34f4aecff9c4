//! The input changes words of a sample.

/// Changes a sample: the first two bytes say how much is cut from its end; then each ten bytes are the index of a word and its
/// new value.
pub fn apply(input: &[u8], sample: &mut Vec<u8>) {
    let Some((cut, patches)) = input.split_first_chunk() else {
        return;
    };
    let words = sample.len() / 8;
    for patch in patches.as_chunks::<10>().0 {
        let word = usize::from(u16::from_le_bytes([patch[0], patch[1]])) % words;
        sample[8 * word..][..8].copy_from_slice(&patch[2..]);
    }
    let left = sample.len().saturating_sub(u16::from_le_bytes(*cut).into());
    sample.truncate(left);
}
