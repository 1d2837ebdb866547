//! What a day's probes of a channel may use.
//!
//! A probe is made only if the most that it can use still fits: what it has used is known when it is too late. So the cap
//! holds to the token, as long as the upstream keeps to the most that it was asked for.

/// Tokens that a protocol puts around a prompt of one message, at most.
const AROUND: u64 = 32;

/// What may be used in a day of UTC. `None`: as much as there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cap {
    /// Tokens, of prompts and answers.
    pub tokens: Option<u64>,
    /// Billionths of a US dollar.
    pub nano_usd: Option<u64>,
}

/// What was used, or is set aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Tokens, of prompts and answers.
    pub tokens: u64,
    /// Billionths of a US dollar.
    pub nano_usd: u64,
}

impl Cap {
    /// Whether `more` may be used beside what was `spent`.
    pub fn has_room(&self, spent: Spent, more: Spent) -> bool {
        let fits = |cap: Option<u64>, spent: u64, more: u64| cap.is_none_or(|cap| spent.saturating_add(more) <= cap);
        fits(self.tokens, spent.tokens, more.tokens) && fits(self.nano_usd, spent.nano_usd, more.nano_usd)
    }
}

impl Spent {
    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            nano_usd: self.nano_usd.saturating_add(other.nano_usd),
        }
    }

    /// Without what had been set aside.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_sub(other.tokens),
            nano_usd: self.nano_usd.saturating_sub(other.nano_usd),
        }
    }
}

/// The most tokens of a prompt: none is less than a byte.
pub fn most_tokens(prompt: &str) -> u64 {
    prompt.len() as u64 + AROUND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_is_reached_to_the_token_and_never_passed() {
        let cap = Cap { tokens: Some(100), nano_usd: None };
        let spent = |tokens, nano_usd| Spent { tokens, nano_usd };
        assert!(cap.has_room(spent(60, 9), spent(40, u64::MAX)));
        assert!(!cap.has_room(spent(61, 0), spent(40, 0)));
        assert!(!cap.has_room(spent(u64::MAX, 0), spent(1, 0)));
        let cap = Cap { tokens: None, nano_usd: Some(5) };
        assert!(cap.has_room(spent(0, 2), spent(9, 3)) && !cap.has_room(spent(0, 3), spent(0, 3)));
        assert!(Cap::default().has_room(spent(u64::MAX, u64::MAX), spent(1, 1)));
    }

    #[test]
    fn what_was_set_aside_is_given_back() {
        let set_aside = Spent { tokens: 60, nano_usd: 10 };
        let spent = Spent::default().and(set_aside).less(set_aside).and(Spent { tokens: 21, nano_usd: 4 });
        assert_eq!(spent, Spent { tokens: 21, nano_usd: 4 });
        assert_eq!(most_tokens("pong"), 36);
    }
}
