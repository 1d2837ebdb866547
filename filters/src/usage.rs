//! Canonical usage: one value into which every protocol's report is folded.

/// Where the figures of a [`Usage`] come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Source {
    /// The upstream reported them, and its report was final.
    Upstream,
    /// The stream was cut after a report that was not its last.
    Partial,
    /// Nothing was reported: output is estimated from what was delivered.
    Estimated,
    /// There was nothing to report: no answer, or an operation without tokens.
    #[default]
    None,
}

impl Source {
    /// The name used in records and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Source::Upstream => "upstream",
            Source::Partial => "partial",
            Source::Estimated => "estimated",
            Source::None => "none",
        }
    }
}

/// Tokens of one request. The fields are disjoint, so that they can be priced and summed;
/// only `reasoning` is a part of another (`output`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens billed at the full input price.
    pub input_uncached: u64,
    /// Prompt tokens served from the provider's cache.
    pub cache_read: u64,
    /// Prompt tokens written to a cache that lives five minutes, or whose life was not said.
    pub cache_write_5m: u64,
    /// Prompt tokens written to a cache that lives an hour.
    pub cache_write_1h: u64,
    /// All generated tokens, reasoning included.
    pub output: u64,
    /// The part of `output` that was reasoning.
    pub reasoning: u64,
    /// Where the figures come from.
    pub source: Source,
}

impl Usage {
    /// What people call input tokens: the whole prompt, cached or not.
    pub const fn input(&self) -> u64 {
        self.input_uncached + self.cache_read + self.cache_write()
    }

    /// Prompt tokens written to a cache, whatever its life.
    pub const fn cache_write(&self) -> u64 {
        self.cache_write_5m + self.cache_write_1h
    }

    /// Input and output together.
    pub const fn total(&self) -> u64 {
        self.input() + self.output
    }
}
