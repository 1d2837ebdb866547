//! A configuration file's text as it may be shown: laid out as it was written, with its secrets masked.
//!
//! Owns what is shown of it. A value is shown if it stands under a field that is known to hold no secret; whatever else
//! there is, a misspelt field's value above all, is masked. The text need not be YAML: it is read word by word, and once
//! that makes no sense no value is shown any more. Comments are prose: of these only what has the form of a secret, or
//! stands behind the name of one, is masked, and what the caller knows to be a secret. Knows nothing of what fields mean.

use weir_filters::secret::Secret;

/// What stands in the place of what is not shown.
const MASK: &str = "(masked)";

/// Fields whose values, or the items of whose lists, are no secrets.
const SHOWN: &[&str] = &[
    "access_log",
    "address",
    "allow_private_upstreams",
    "attempts",
    "base_url",
    "batch",
    "batch_wait",
    "bodies",
    "bytes_per_token",
    "certificate",
    "channels",
    "compress",
    "concurrency",
    "connect",
    "connections_per_ip",
    "data_dir",
    "day",
    "directory",
    "durability",
    "enabled",
    "every",
    "expires",
    "failures",
    "first_byte",
    "for",
    "format",
    "grace_period",
    "gzip",
    "header",
    "header_timeout",
    "headers",
    "idle",
    "inject_usage",
    "keep",
    "keep_hours",
    "keep_minutes",
    "keepalive_timeout",
    "max_body",
    "max_concurrency",
    "max_connections",
    "max_header",
    "max_in_flight",
    "max_keys",
    "max_tokens",
    "max_total",
    "metrics_token_file",
    "min_drain_rate",
    "models",
    "month",
    "name",
    "node",
    "on",
    "on_disconnect",
    "operation",
    "origins",
    "output_tokens",
    "password_file",
    "path",
    "pause_on_traffic",
    "price_rate",
    "prices",
    "priority",
    "private_key",
    "prompt",
    "protocol",
    "protocols",
    "role",
    "rotate",
    "rotate_every",
    "rpm",
    "spool",
    "strip_request",
    "strip_response",
    "tenant",
    "threads",
    "timeout",
    "token_file",
    "tokens_per_day",
    "topic",
    "total",
    "tpm",
    "trusted_proxies",
    "ttl",
    "unpriced",
    "upstream_ca",
    "upstream_path",
    "url",
    "usd_per_day",
    "user",
    "username",
    "value_file",
    "weight",
    "when_full",
    "within",
    "write_timeout",
];
/// Those of them that are something else where they are no field of another.
const SECTIONS: &[&str] = &["channels", "headers"];
/// Fields of secrets.
const SECRET: &[&str] = &["value", "token", "metrics_token", "password", "sha256"];
/// Mappings whose names are free, and whose values are no secrets.
const FREE: &[&str] = &["model_map", "labels"];
/// The one whose names are free and whose values may be secrets.
const FREE_NAMES: &str = "set_request";

/// The text without its secrets; `known` are removed wherever they stand.
pub fn redacted(text: &str, known: &[Secret]) -> String {
    let mut reader = Reader { text, at: 0, out: String::with_capacity(text.len()), ..Reader::default() };
    reader.read();
    let mut out = reader.out;
    for secret in known.iter().map(Secret::expose).filter(|secret| secret.len() >= 6) {
        if out.contains(secret) {
            out = out.replace(secret, MASK);
        }
    }
    out
}

#[derive(Default)]
struct Reader<'t> {
    text: &'t str,
    at: usize,
    out: String,
    /// The names of the block mappings around, each with its column.
    blocks: Vec<(usize, &'t str)>,
    /// The flow collections around.
    flows: Vec<Flow<'t>>,
    /// The text makes no sense: what follows may be anything.
    is_lost: bool,
    /// The line has a name already.
    is_named: bool,
    /// A quoted word has just ended.
    is_after_quote: bool,
}

/// A flow collection.
#[derive(Clone, Copy)]
struct Flow<'t> {
    is_mapping: bool,
    /// Whose value it is.
    of: &'t str,
    /// Whose value is read in it.
    name: &'t str,
}

impl<'t> Flow<'t> {
    fn new(is_mapping: bool, of: &'t str) -> Self {
        // A word without a name in a mapping is a name without a value, or the text makes no sense.
        Self { is_mapping, of, name: if is_mapping { "" } else { of } }
    }
}

impl<'t> Reader<'t> {
    fn read(&mut self) {
        while self.at < self.text.len() {
            self.line();
        }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn take(&mut self, bytes: usize) {
        self.out.push_str(&self.text[self.at..self.at + bytes]);
        self.at += bytes;
    }

    fn skip_with(&mut self, bytes: usize, shown: &str) {
        self.out.push_str(shown);
        self.at += bytes;
    }

    /// One line, or as much as a quoted word in it reaches on.
    fn line(&mut self) {
        let begun = self.at;
        self.is_after_quote = false;
        self.is_named = false;
        let column = |reader: &Self| reader.at - begun;
        let mut is_first = true;
        loop {
            let blank = self.rest().len() - self.rest().trim_start_matches([' ', '\t', '\r']).len();
            self.take(blank);
            let rest = self.rest();
            let Some(next) = rest.chars().next() else { return };
            let may_be_comment = blank > 0 || column(self) == 0;
            match next {
                '\n' => return self.take(1),
                '#' if may_be_comment => return self.comment(),
                '-' | '?' if self.flows.is_empty() && is_first && is_indicator(rest) => {
                    self.take(1);
                    continue;
                }
                '{' | '[' if !self.is_after_quote => {
                    self.stands_at(column(self));
                    self.flows.push(Flow::new(next == '{', self.name()));
                    self.take(1);
                }
                '}' | ']' => {
                    self.is_lost |= self.flows.pop().is_none();
                    self.take(1);
                    self.is_after_quote = false;
                }
                ',' if !self.flows.is_empty() => {
                    if let Some(flow) = self.flows.last_mut() {
                        *flow = Flow::new(flow.is_mapping, flow.of);
                    }
                    self.take(1);
                    self.is_after_quote = false;
                }
                ':' if self.is_after_quote || !self.flows.is_empty() => {
                    self.take(1);
                    self.is_after_quote = false;
                }
                '"' | '\'' if !self.is_after_quote => self.quoted(next, begun),
                _ => {
                    // Something right behind a quoted word belongs to no value.
                    self.is_lost |= self.is_after_quote;
                    self.is_after_quote = false;
                    self.plain(begun);
                    if self.at > begun && self.text[..self.at].ends_with('\n') {
                        return;
                    }
                }
            }
            is_first = false;
        }
    }

    /// Whose value is read.
    fn name(&self) -> &'t str {
        match (self.flows.last(), self.blocks.last()) {
            (Some(flow), _) => flow.name,
            (None, Some((_, name))) => name,
            (None, None) => "",
        }
    }

    /// A value stands at this column: it is no part of what stands there or behind it.
    fn stands_at(&mut self, column: usize) {
        if self.flows.is_empty() {
            self.blocks.retain(|(other, _)| *other < column);
        }
    }

    fn is_within(&self, field: &str) -> bool {
        self.flows.iter().any(|flow| flow.of == field || flow.name == field)
            || self.blocks.iter().any(|(_, name)| *name == field)
    }

    fn is_shown(&self) -> bool {
        if self.is_lost || self.is_within(FREE_NAMES) {
            return false;
        }
        // `channels` of a key are names; those of the file are mappings.
        let is_section = self.blocks.len() + self.flows.iter().filter(|flow| flow.is_mapping).count() <= 1
            && SECTIONS.contains(&self.name());
        SHOWN.contains(&self.name()) && !is_section
            || FREE.iter().any(|free| self.is_within(free) && !SECRET.contains(&self.name()))
    }

    fn quoted(&mut self, quote: char, line: usize) {
        let (begun, inner) = (self.at, &self.rest()[1..]);
        let mut escaped = false;
        let mut letters = inner.char_indices().peekable();
        let mut end = None;
        while let Some((at, c)) = letters.next() {
            if c == quote && !escaped {
                // `''` is a quote within single quotes.
                if quote == '\'' && letters.next_if(|(_, next)| *next == quote).is_some() {
                    continue;
                }
                end = Some(at);
                break;
            }
            escaped = quote == '"' && c == '\\' && !escaped;
        }
        let Some(end) = end else {
            self.is_lost = true;
            self.out.push(quote);
            return self.skip_with(self.rest().len(), MASK);
        };
        let word = &inner[..end];
        let behind = &inner[end + 1..];
        let is_name = behind.trim_start_matches([' ', '\t']).starts_with(':');
        // Few words go over several lines: most likely a quote is missing, and the next one ends nothing.
        self.is_lost |= word.contains('\n');
        self.out.push(quote);
        if is_name {
            self.named(word, begun - line);
        } else {
            self.stands_at(begun - line);
            let shown = self.value(word);
            self.out.push_str(&shown);
        }
        self.out.push(quote);
        self.at = begun + 1 + end + 1;
        self.is_after_quote = true;
    }

    fn plain(&mut self, line: usize) {
        let begun = self.at;
        let rest = self.rest();
        let in_flow = !self.flows.is_empty();
        let mut before = ' ';
        let end = rest.char_indices().find(|(at, c)| {
            let next = rest[at + c.len_utf8()..].chars().next();
            let ends = match c {
                '\n' => true,
                ':' => next.is_none_or(|next| next.is_whitespace() || in_flow && ",[]{}".contains(next)),
                '#' => before.is_whitespace(),
                // `${NAME:-default}` in a flow collection is one word.
                '{' if before == '$' => false,
                ',' | '[' | ']' | '{' | '}' => in_flow && !is_reference(&rest[..*at]),
                _ => false,
            };
            before = *c;
            ends
        });
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let end = end.map_or(rest.len(), |(at, _)| at).max(first);
        let word = rest[..end].trim_end_matches([' ', '\t', '\r']);
        if rest[word.len()..].trim_start_matches([' ', '\t']).starts_with(':') && !word.is_empty() {
            self.named(word, begun - line);
            self.at = begun + word.len();
            let colon = self.rest().find(':').map_or(0, |at| at + 1);
            return self.take(colon);
        }
        self.stands_at(begun - line);
        if !in_flow && is_block(word) {
            self.take(word.len());
            return self.block();
        }
        let shown = self.value(word);
        self.skip_with(word.len(), &shown);
    }

    /// The lines of a block of text, which stand deeper than its name.
    fn block(&mut self) {
        let column = self.blocks.last().map_or(0, |(column, _)| *column);
        let is_shown = self.is_shown();
        let mut is_masked = false;
        let line = self.rest().find('\n').map_or(self.rest().len(), |end| end + 1);
        self.take(line);
        while !self.rest().is_empty() {
            let rest = self.rest();
            let line = &rest[..rest.find('\n').map_or(rest.len(), |end| end + 1)];
            let indent = line.len() - line.trim_start_matches(' ').len();
            if !line.trim().is_empty() && indent <= column {
                return;
            }
            if is_shown || line.trim().is_empty() {
                self.take(line.len());
            } else {
                let shown = if is_masked { String::new() } else { format!("{}{MASK}\n", &line[..indent]) };
                self.skip_with(line.len(), &shown);
                is_masked = true;
            }
        }
    }

    /// A name: what follows is its value.
    fn named(&mut self, word: &'t str, column: usize) {
        // A name where a value should be.
        self.is_lost |= match self.flows.last() {
            Some(flow) if flow.is_mapping => !flow.name.is_empty(),
            Some(_) => false,
            None => self.is_named,
        };
        self.is_named = true;
        let is_in_free = self.flows.iter().any(|flow| is_free(flow.of));
        if let Some(flow) = self.flows.last_mut() {
            flow.name = word;
        } else {
            self.blocks.retain(|(other, _)| *other < column);
            self.blocks.push((column, word));
        }
        let is_free = is_in_free || self.blocks.iter().any(|(_, name)| is_free(name));
        let is_known = SHOWN.contains(&word) || SECRET.contains(&word) || is_free && !self.is_lost;
        let is_name = word.len() <= 32 && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        if (is_known || is_name || word.starts_with(['&', '*', '!'])) && !is_telling(word) {
            self.out.push_str(word);
        } else {
            self.out.push_str(MASK);
        }
    }

    fn value(&self, word: &str) -> String {
        if self.is_shown() && !is_telling(word) {
            return address(word);
        }
        match word {
            "" | "null" | "~" | "---" | "..." => word.to_owned(),
            _ if is_reference(word) && word.ends_with('}') => reference(word),
            _ => MASK.to_owned(),
        }
    }

    fn comment(&mut self) {
        let rest = self.rest();
        let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
        let shown = comment(line);
        self.skip_with(line.len(), &shown);
    }
}

fn is_free(name: &str) -> bool {
    FREE.contains(&name) || name == FREE_NAMES
}

/// `- `, `? `, and a line of nothing else.
fn is_indicator(rest: &str) -> bool {
    rest[1..].chars().next().is_none_or(char::is_whitespace)
}

/// `|`, `>-` and the like.
fn is_block(word: &str) -> bool {
    let mut rest = word.chars();
    matches!(rest.next(), Some('|' | '>')) && rest.all(|c| matches!(c, '+' | '-' | '0'..='9'))
}

/// Whether a word is `${NAME` so far, or all of it is one reference.
fn is_reference(word: &str) -> bool {
    let Some(inner) = word.strip_prefix("${") else { return false };
    let name = inner.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
    name.len() < inner.len()
        && match name.find('}') {
            Some(end) => end + 1 == name.len(),
            None => true,
        }
}

/// A reference without what it stands for by default.
fn reference(word: &str) -> String {
    match word.split_once(":-") {
        Some((name, default)) if default != "}" => format!("{name}:-{MASK}}}"),
        _ => word.to_owned(),
    }
}

/// A URL without a login and a query; anything else as it is.
fn address(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = match authority.rsplit_once('@') {
        Some((_, host)) => format!("{MASK}@{host}"),
        None => authority.to_owned(),
    };
    let path = match path.split_once('?') {
        Some((path, _)) => format!("{path}?{MASK}"),
        None => path.to_owned(),
    };
    format!("{scheme}://{host}{path}")
}

/// Whether a word has the form of a secret, wherever it stands.
fn is_telling(word: &str) -> bool {
    let is_key = ["sk-", "AIza", "weir-admin-", "Bearer "].iter().any(|begin| word.starts_with(begin));
    is_key && word.len() >= 8
}

/// A comment without what may be a secret in it: what follows the name of one, and long words of letters and digits.
fn comment(line: &str) -> String {
    let mut out = String::new();
    let mut is_secret = false;
    for piece in line.split_inclusive([' ', '\t']) {
        let word = piece.trim_end();
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_long = bare.len() >= 16
            && bare.bytes().any(|b| b.is_ascii_digit())
            && bare.bytes().any(|b| b.is_ascii_alphabetic())
            && !bare.contains("://")
            && !word.starts_with(['/', '.']);
        if !bare.is_empty()
            && (is_secret && !bare.starts_with('$') && !word.starts_with('$') || is_long || is_telling(bare))
        {
            out.push_str(MASK);
            out.push_str(&piece[word.len()..]);
        } else {
            out.push_str(piece);
        }
        if !bare.is_empty() || word.ends_with(':') {
            is_secret = word.ends_with([':', '=']) && SECRET.contains(&bare);
        }
    }
    out
}

#[cfg(test)]
mod tests;
