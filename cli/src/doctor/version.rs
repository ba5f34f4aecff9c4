//! Version numbers.

use serde::{Serialize, Serializer};
use std::{fmt, str::FromStr};

/// A version, as it was written and as numbers: "535.129.03", "5.4-3.0.3", "6.12.94+deb13".
#[derive(Clone)]
pub struct Version {
    text: String,
    /// The numbers at its beginning; at least one.
    pub numbers: Vec<u32>,
    /// What follows the numbers.
    pub rest: String,
}

/// The text does not begin with a number.
pub struct NoNumber;

impl Version {
    /// Whether this is the given version or a newer one.
    pub fn is_at_least(&self, other: &[u32]) -> bool {
        self.numbers[..] >= *other
    }

    /// Reads numbers with one of these characters between them.
    pub fn parse(text: &str, separators: &[char]) -> Result<Self, NoNumber> {
        let mut numbers = Vec::new();
        let mut rest = text;
        loop {
            let begins = if numbers.is_empty() {
                rest
            } else {
                rest.strip_prefix(separators).unwrap_or_default()
            };
            let digits = begins.len()
                - begins
                    .trim_start_matches(|c: char| c.is_ascii_digit())
                    .len();
            let Ok(number) = begins[..digits].parse() else {
                break;
            };
            numbers.push(number);
            rest = &begins[digits..];
        }
        if numbers.is_empty() {
            return Err(NoNumber);
        }
        Ok(Self {
            text: text.into(),
            numbers,
            rest: rest.into(),
        })
    }
}

impl FromStr for Version {
    type Err = NoNumber;

    fn from_str(text: &str) -> Result<Self, NoNumber> {
        Self::parse(text, &['.', '-'])
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}
