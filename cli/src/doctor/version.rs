//! Version numbers.

use serde::{Serialize, Serializer};
use std::{fmt, num::ParseIntError, str::FromStr};

/// A version, as it was written and as numbers: "535.129.03", "5.4-3.0.3".
#[derive(Clone)]
pub struct Version {
    text: String,
    /// The numbers in it.
    pub numbers: Vec<u32>,
}

impl Version {
    /// Whether this is the given version or a newer one.
    pub fn is_at_least(&self, other: &[u32]) -> bool {
        self.numbers[..] >= *other
    }
}

impl FromStr for Version {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        let numbers = text.split(['.', '-']).map(str::parse);
        Ok(Self {
            text: text.into(),
            numbers: numbers.collect::<Result<_, _>>()?,
        })
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
