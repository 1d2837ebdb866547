//! Records as messages of NSQ, published over nsqd's HTTP interface.
//!
//! Owns which records travel together and how large a message may be. What a message says is
//! [`weir_filters::ai_event`]'s, or it is the record; how messages travel is [`sender`]'s.
//!
//! Messages keep the order of the records, and nsqd gets each at least once: what had no answer is sent again. While
//! nsqd takes nothing, records wait in the queue before this sink, which drops what it has no room for.

mod sender;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::io;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use weir_filters::ai_event;
use weir_filters::nsq::{MAX_MESSAGE, Messages};
use weir_filters::record::fit;

use crate::config::{Delivery, Nsq, NsqFormat};

use self::sender::Sender;
use super::queue::{Next, Taker};

/// How long a sink that holds nothing sleeps, unless something comes or it is to end.
const IDLE: Duration = Duration::from_secs(3600);

/// Publishes what comes, to the end. Meant for a thread of its own: it waits.
pub(crate) fn run(config: &Nsq, taker: Taker) {
    match Publisher::new(config, &taker) {
        Ok(mut publisher) => publisher.run(&taker),
        Err(e) => log::error!("audit: nsq cannot begin, and all records for it are lost: {e}"),
    }
}

struct Publisher<'a> {
    format: NsqFormat,
    delivery: Delivery,
    sender: Sender<'a>,
    runtime: Runtime,
    /// What is sent next.
    messages: Messages,
    /// When the first of them came.
    since: Option<Instant>,
}

impl<'a> Publisher<'a> {
    fn new(config: &Nsq, taker: &'a Taker) -> io::Result<Self> {
        Ok(Self {
            format: config.format,
            delivery: config.delivery,
            sender: Sender::new(config, taker)?,
            runtime: Builder::new_current_thread().enable_all().build()?,
            messages: Messages::default(),
            since: None,
        })
    }

    fn run(&mut self, taker: &Taker) {
        loop {
            match taker.next(self.due()) {
                Next::Batch(batch) => {
                    for (_, line) in batch.iter() {
                        self.add(line);
                    }
                }
                Next::Nothing => {}
                Next::Closed => return self.send(),
            }
            if self.due() <= Instant::now() {
                self.send();
            }
        }
    }

    fn add(&mut self, line: &[u8]) {
        let Some(message) = message(self.format, line) else { return self.sender.refuse_one() };
        if !self.messages.is_empty() && self.messages.size_with(message.len()) > self.delivery.batch {
            self.send();
        }
        if !self.messages.push(&message) {
            return self.sender.refuse_one();
        }
        self.since.get_or_insert_with(Instant::now);
        if self.messages.size() >= self.delivery.batch {
            self.send();
        }
    }

    /// When what is held is sent, whatever else comes.
    fn due(&self) -> Instant {
        self.since.map_or_else(|| Instant::now() + IDLE, |since| since + self.delivery.batch_wait)
    }

    fn send(&mut self) {
        if !self.messages.is_empty() {
            self.runtime.block_on(self.sender.send(&self.messages));
            self.messages.clear();
        }
        self.since = None;
    }
}

/// The message for a record's line. A record that is too long for nsqd gives up its bodies and, if need be, its
/// headers. `None`: it is too long even then, or no record.
fn message(format: NsqFormat, line: &[u8]) -> Option<Cow<'_, [u8]>> {
    let record = line.strip_suffix(b"\n").unwrap_or(line);
    match format {
        NsqFormat::Record if record.len() <= MAX_MESSAGE => Some(Cow::Borrowed(record)),
        NsqFormat::Record => {
            let record = fit(std::str::from_utf8(record).ok()?, MAX_MESSAGE)?;
            Some(Cow::Owned(record.into_owned().into_bytes()))
        }
        NsqFormat::AiEvent => {
            let mut message = Vec::new();
            let is_fit = ai_event::put(record, &mut message) && message.len() <= MAX_MESSAGE;
            is_fit.then_some(Cow::Owned(message))
        }
    }
}
