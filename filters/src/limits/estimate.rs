//! What a request may use, thought before it is made.
//!
//! A reservation that is too small lets a limit be exceeded by the difference; one that is too large
//! keeps others out until it settles. So the estimate leans to the large side.

use crate::request::BodyFacts;
use crate::route::Operation;

/// How estimates are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimates {
    /// How many bytes of a request's body are counted as one token of its prompt.
    pub bytes_per_token: u64,
    /// How many tokens an answer is thought to have whose request sets no maximum.
    pub output_tokens: u64,
}

impl Default for Estimates {
    /// English prose has four bytes and more a token, code and Chinese about three, and the body has
    /// JSON around both. Most answers of chats are shorter than four thousand tokens.
    fn default() -> Self {
        Self { bytes_per_token: 3, output_tokens: 4096 }
    }
}

/// Tokens that a request may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Of the prompt.
    pub input: u64,
    /// Of the answer, of all answers if it asks for several.
    pub output: u64,
}

impl Tokens {
    /// Both.
    pub const fn total(self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

impl Estimates {
    /// What a request may use whose body has so many bytes and says so much. `model_most` is the longest
    /// answer that the model gives, where that is known.
    pub fn tokens(
        &self,
        operation: Operation,
        body_bytes: u64,
        facts: Option<&BodyFacts>,
        model_most: Option<u64>,
    ) -> Tokens {
        let input = body_bytes.div_ceil(self.bytes_per_token.max(1));
        match operation {
            Operation::Models | Operation::AnthropicCountTokens | Operation::GeminiCountTokens => Tokens::default(),
            Operation::OpenAiEmbeddings | Operation::GeminiEmbed => Tokens { input, output: 0 },
            _ => {
                let asked = facts.and_then(|facts| facts.max_tokens);
                let each = match (asked, model_most) {
                    (Some(asked), Some(most)) => asked.min(most),
                    (Some(asked), None) => asked,
                    (None, most) => most.unwrap_or(u64::MAX).min(self.output_tokens),
                };
                let answers = facts.and_then(|facts| facts.choices).unwrap_or(1).max(1);
                Tokens { input, output: each.saturating_mul(answers) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(max_tokens: Option<u64>, choices: Option<u64>) -> BodyFacts {
        BodyFacts { max_tokens, choices, ..BodyFacts::default() }
    }

    #[test]
    fn an_estimate_is_the_prompts_size_and_the_most_that_may_be_answered() {
        let estimates = Estimates { bytes_per_token: 4, output_tokens: 1000 };
        let chat = |max, choices, most| {
            let tokens = estimates.tokens(Operation::OpenAiChat, 401, Some(&facts(max, choices)), most);
            (tokens.input, tokens.output)
        };
        assert_eq!(chat(Some(50), None, None), (101, 50));
        assert_eq!(chat(None, None, None), (101, 1000));
        assert_eq!(chat(Some(50), Some(3), None), (101, 150));
        assert_eq!(chat(Some(9000), None, Some(800)), (101, 800));
        assert_eq!(chat(None, None, Some(800)), (101, 800));
        assert_eq!(chat(None, None, Some(8000)), (101, 1000));
        assert_eq!(chat(Some(u64::MAX), Some(u64::MAX), None), (101, u64::MAX));
    }

    #[test]
    fn what_generates_nothing_has_no_output() {
        let estimates = Estimates::default();
        let of = |operation| estimates.tokens(operation, 300, Some(&facts(Some(9), None)), None);
        assert_eq!(of(Operation::OpenAiEmbeddings), Tokens { input: 100, output: 0 });
        assert_eq!(of(Operation::GeminiEmbed), Tokens { input: 100, output: 0 });
        assert_eq!(of(Operation::AnthropicCountTokens), Tokens::default());
        assert_eq!(of(Operation::GeminiCountTokens), Tokens::default());
    }
}
