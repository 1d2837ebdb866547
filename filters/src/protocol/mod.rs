//! The provider protocols: where each says its usage, and the shape of its errors.

pub(crate) mod anthropic;
pub(crate) mod dialect;
pub(crate) mod gemini;
pub(crate) mod ollama;
pub(crate) mod openai;

use std::fmt;
use std::str::FromStr;

/// The dialect that a client or an upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// OpenAI and everything compatible with it, Ollama's native API included.
    OpenAi,
    /// Anthropic's Messages API.
    Anthropic,
    /// Google's Gemini API.
    Gemini,
}

impl Protocol {
    /// Every protocol, in the order in which documents list them.
    pub const ALL: [Protocol; 3] = [Protocol::OpenAi, Protocol::Anthropic, Protocol::Gemini];

    /// The name used in configuration, records and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::OpenAi => "openai",
            Protocol::Anthropic => "anthropic",
            Protocol::Gemini => "gemini",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Protocol {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|p| p.name() == name).ok_or(())
    }
}
