//! The time, asked for once a wake.
//!
//! Most of what a connection's task does when it is woken is over in microseconds, and a request wants to
//! know the time in a dozen places: for deadlines, idle connections, metrics, the `Date` header. All of
//! them see the time at which the task was woken. What measures a piece of work between two waits asks
//! [`Instant::now`] itself.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use pingora_core::protocols::http::date;

thread_local! {
    static WOKEN: Cell<Option<Instant>> = const { Cell::new(None) };
    static DATE: RefCell<Option<(Instant, HeaderValue)>> = const { RefCell::new(None) };
}

/// When the task was woken; in tasks that do not [keep time](keep), the time.
pub(crate) fn now() -> Instant {
    WOKEN.get().unwrap_or_else(Instant::now)
}

/// The same as the runtime's timers have it.
pub(crate) fn tokio_now() -> tokio::time::Instant {
    now().into()
}

/// Runs `task` with a time that stands still between two waits.
pub(crate) async fn keep<F: Future>(task: F) -> F::Output {
    /// Also in a panic: the thread has other tasks.
    struct Forget;
    impl Drop for Forget {
        fn drop(&mut self) {
            WOKEN.set(None);
        }
    }
    let mut task = pin!(task);
    poll_fn(|cx| {
        let _forget = Forget;
        WOKEN.set(Some(Instant::now()));
        task.as_mut().poll(cx)
    })
    .await
}

/// Writes the value of a `Date` header, which changes with each second.
pub(crate) fn with_date(write: impl FnOnce(&[u8])) {
    let now = now();
    DATE.with_borrow_mut(|known| {
        if known.as_ref().is_none_or(|(until, _)| *until <= now) {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let left = Duration::from_secs(1).saturating_sub(Duration::from_nanos(since.subsec_nanos().into()));
            *known = Some((now + left, date::get_cached_date()));
        }
        if let Some((_, date)) = known {
            write(date.as_bytes());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn time_stands_still_until_the_task_waits() {
        keep(async {
            let woken = now();
            std::thread::sleep(TICK);
            assert_eq!(now(), woken);
            tokio::time::sleep(TICK).await;
            assert!(now() >= woken + 2 * TICK);
        })
        .await;
        let outside = now();
        assert!(Instant::now() >= outside && now() >= outside);
        std::thread::sleep(TICK);
        assert!(now() >= outside + TICK, "time goes on outside");
    }

    #[tokio::test]
    async fn a_panic_lets_time_go_on() {
        let broken = tokio::spawn(keep(async { panic!("on purpose") })).await;
        assert!(broken.is_err());
        let before = now();
        std::thread::sleep(TICK);
        assert!(now() >= before + TICK);
    }

    #[test]
    fn the_date_follows_the_seconds() {
        let mut dates = Vec::new();
        for _ in 0..2 {
            with_date(|date| dates.push(String::from_utf8(date.to_vec()).unwrap()));
            std::thread::sleep(Duration::from_millis(1_050));
        }
        let parsed: Vec<_> = dates.iter().map(|date| seconds(date)).collect();
        assert!((1..=2).contains(&(parsed[1] - parsed[0]).rem_euclid(60)), "{dates:?}");
        assert!(dates[0].ends_with(" GMT"), "{dates:?}");
    }

    /// The seconds of `Sat, 21 Nov 2026 14:26:11 GMT`.
    fn seconds(date: &str) -> i32 {
        date[23..25].parse().unwrap()
    }
}
