//! Tasks that serve one connection after the other.
//!
//! A connection needs a task with room for every state of a conversation, a session and a timer. To make
//! them costs as much as a request. So a task whose connection has ended keeps its seat for a while, and
//! the next connection is given to it. Owns who sits where; refuses to know what is said.

use std::cell::Cell;
use std::net::{IpAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::census::Counted;

/// How many free seats a thread keeps: what a burst leaves behind, about 10 KiB each.
const MAX_FREE: usize = 64;

/// A connection that has come in.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) socket: TcpStream,
    /// Where it comes from.
    pub(super) from: Option<IpAddr>,
    /// Held for as long as the connection is.
    pub(super) counted: Counted,
}

/// The seats of a service.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<Vec<Row>>);

/// The seats of a thread. It has at least been sat there once.
#[derive(Debug)]
struct Row {
    thread: usize,
    taken: usize,
    free: Vec<Arc<Place>>,
}

/// Where a connection is put for the task that sits there.
#[derive(Debug, Default)]
struct Place(Mutex<(Option<Arrival>, Option<Waker>)>);

/// A task's seat, given back when it is dropped, however the task ends.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    row: usize,
    place: Arc<Place>,
    free: bool,
}

impl Seats {
    fn rows(&self) -> MutexGuard<'_, Vec<Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a connection to a free seat of the thread that serves the fewest. It comes back if there is
    /// none: a new task is needed.
    pub(super) fn give(&self, arrival: Arrival) -> Result<(), Arrival> {
        let place = {
            let mut rows = self.rows();
            let least = rows.iter_mut().min_by_key(|row| row.taken);
            let Some((row, place)) = least.and_then(|row| row.free.pop().map(|place| (row, place))) else {
                return Err(arrival);
            };
            row.taken += 1;
            place
        };
        let waker = {
            let mut place = place.lock();
            place.0 = Some(arrival);
            place.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// A new seat on this thread, taken.
    pub(super) fn sit(self: &Arc<Self>) -> Seat {
        let thread = this_thread();
        let mut rows = self.rows();
        let row = rows.iter().position(|row| row.thread == thread).unwrap_or_else(|| {
            rows.push(Row { thread, taken: 0, free: Vec::new() });
            rows.len() - 1
        });
        rows[row].taken += 1;
        Seat { seats: self.clone(), row, place: Arc::default(), free: false }
    }
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, (Option<Arrival>, Option<Waker>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Frees the seat for another connection. `false` if enough are free: the task is to end.
    pub(super) fn free(&mut self) -> bool {
        let mut rows = self.seats.rows();
        let row = &mut rows[self.row];
        if row.free.len() >= MAX_FREE {
            return false;
        }
        row.taken -= 1;
        row.free.push(self.place.clone());
        self.free = true;
        true
    }

    /// The next connection, once the seat was freed.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Arrival> {
        let mut place = self.place.lock();
        if let Some(arrival) = place.0.take() {
            self.free = false;
            return Poll::Ready(arrival);
        }
        if !place.1.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            place.1 = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Takes the seat back. Gives the connection that was put there in the meantime, if any.
    pub(super) fn take_back(&mut self) -> Option<Arrival> {
        if !std::mem::take(&mut self.free) {
            return None;
        }
        let mut rows = self.seats.rows();
        let row = &mut rows[self.row];
        if let Some(at) = row.free.iter().position(|place| Arc::ptr_eq(place, &self.place)) {
            row.free.remove(at);
            row.taken += 1;
            return None;
        }
        drop(rows);
        self.place.lock().0.take()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        drop(self.take_back());
        self.seats.rows()[self.row].taken -= 1;
    }
}

/// A number for each thread that serves, from 0.
fn this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static NUMBER: Cell<Option<usize>> = const { Cell::new(None) });
    NUMBER.with(|number| {
        let known = number.get().unwrap_or_else(|| NEXT.fetch_add(1, Ordering::Relaxed));
        number.set(Some(known));
        known
    })
}

#[cfg(test)]
mod tests {
    use super::super::census::Census;
    use super::super::census::tests::room;
    use super::*;
    use std::net::TcpListener;

    fn stream() -> Arrival {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        Arrival { socket, from: None, counted: Arc::new(Census::default()).enter(None, &room(1, 0)).unwrap() }
    }

    fn poll(seat: &mut Seat) -> Poll<Arrival> {
        seat.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    fn taken(seats: &Seats) -> usize {
        seats.rows().iter().map(|row| row.taken).sum()
    }

    #[test]
    fn a_connection_goes_to_a_free_seat_or_comes_back() {
        let seats = Arc::new(Seats::default());
        let mut seat = seats.sit();
        assert!(seats.give(stream()).is_err(), "the only seat is taken");
        assert!(seat.free());
        assert!(poll(&mut seat).is_pending());
        assert!(seats.give(stream()).is_ok());
        assert!(seats.give(stream()).is_err(), "it is taken again");
        assert!(poll(&mut seat).is_ready());
        assert_eq!(taken(&seats), 1);
        drop(seat);
        assert_eq!(taken(&seats), 0);
    }

    #[test]
    fn the_thread_that_serves_the_fewest_is_given_the_next() {
        let seats = Arc::new(Seats::default());
        let sit = |n: usize| std::thread::scope(|s| s.spawn(|| (0..n).map(|_| seats.sit()).collect::<Vec<_>>()).join());
        let (mut busy, mut calm) = (sit(3).unwrap(), sit(2).unwrap());
        assert!(busy[0].free() && calm[0].free());
        assert!(seats.give(stream()).is_ok());
        assert!(poll(&mut calm[0]).is_ready());
        assert!(poll(&mut busy[0]).is_pending());
    }

    #[test]
    fn a_seat_that_is_taken_back_gives_what_was_put_there() {
        let seats = Arc::new(Seats::default());
        let (mut left, mut given) = (seats.sit(), seats.sit());
        assert!(left.free());
        assert!(left.take_back().is_none());
        assert!(given.free());
        assert!(seats.give(stream()).is_ok());
        assert!(given.take_back().is_some());
        assert!(seats.give(stream()).is_err());
        assert_eq!(taken(&seats), 2);
        drop((left, given));
        assert_eq!(taken(&seats), 0);
    }

    #[test]
    fn free_seats_are_bounded() {
        let seats = Arc::new(Seats::default());
        let mut sitting: Vec<_> = (0..=MAX_FREE).map(|_| seats.sit()).collect();
        assert_eq!(sitting.iter_mut().filter_map(|seat| seat.free().then_some(())).count(), MAX_FREE);
        drop(sitting);
        assert_eq!(taken(&seats), 0);
        assert!(seats.give(stream()).is_err(), "nobody is left");
    }
}
