//! What a request allocates on the thread that serves it: the hot path's budget, counted.
//!
//! A process of its own, because it counts in the allocator: a gateway, a mock upstream and a client that
//! asks over one connection. Only the gateway's worker thread is counted, by its name.

mod counting;
mod scene;

use counting::{Cost, counted, show_sites};
use scene::Scene;

/// A chat completion of 300 bytes with the nine header lines of an SDK. `ARCHITECTURE.md` says what each is
/// for ("What a request allocates").
const PER_REQUEST: f64 = 20.5;
/// Bytes of these.
const BYTES_PER_REQUEST: f64 = 4_500.0;

#[test]
fn a_request_allocates_what_is_written_down_and_an_event_nothing() {
    let scene = Scene::start();
    let mut client = scene.client();
    scene.json(&mut client, 300);
    let requests = 1_000;
    let cost = counted(|| scene.json(&mut client, requests)).per(requests);
    println!("a request: {cost:?}");
    show_sites(requests);
    assert!(cost.allocations <= PER_REQUEST, "{cost:?}");
    assert!(cost.bytes <= BYTES_PER_REQUEST, "{cost:?}");

    scene.stream(&mut client, 100);
    let short = counted(|| scene.stream(&mut client, 100));
    let long = counted(|| scene.stream(&mut client, 2_100));
    let event = Cost { allocations: long.allocations - short.allocations, bytes: long.bytes - short.bytes }.per(2_000);
    println!("an event: {event:?}");
    // The buffers of a connection come and go with its pauses; the events themselves allocate nothing.
    assert!(event.allocations <= 0.1, "{event:?}");
}
