//! One timer for all that can be late on a connection.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that follows a deadline which is nearly always put off before it comes. It is set anew only
/// when the deadline comes nearer, or when it went off too early: a deadline that moves with each event
/// of a stream costs a comparison, not an entry in the runtime's timer wheel.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready once `due` has come; until then the task is woken in time.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if due < sleep.deadline() {
            sleep.as_mut().reset(due);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() >= due || Instant::now() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;

    const TICK: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn it_goes_off_at_the_deadline_that_was_said_last() {
        let (mut alarm, start) = (Alarm::default(), Instant::now());
        let mut due = start + TICK;
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            // Put off once, after the timer has been set for the first deadline.
            if polls == 2 {
                due = start + 3 * TICK;
            }
            alarm.poll(cx, due)
        })
        .await;
        assert!(start.elapsed() >= 3 * TICK, "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn a_nearer_deadline_is_not_missed() {
        let (mut alarm, start) = (Alarm::default(), Instant::now());
        poll_fn(|cx| Poll::Ready(alarm.poll(cx, start + Duration::from_secs(60)).is_pending())).await;
        poll_fn(|cx| alarm.poll(cx, start + TICK)).await;
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn it_can_be_used_again() {
        let mut alarm = Alarm::default();
        for _ in 0..3 {
            let start = Instant::now();
            poll_fn(|cx| alarm.poll(cx, start + TICK)).await;
            assert!(start.elapsed() >= TICK);
        }
    }
}
