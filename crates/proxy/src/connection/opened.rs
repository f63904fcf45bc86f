//! A tunnel on a stream of HTTP/2 that is opened: what the client says in it is a connection of its own, in the task of its stream.

use super::{Kept, Origin, Rest, burst, has_agreed_on_http2, wait_for_request};
use crate::clock::Alarm;
use crate::contain::contain;
use crate::forward::inside::{self, Heard};
use crate::streams;
use crate::wire::Wire;
use crate::worker::Worker;
use penstock_rules::error::Kind;
use std::pin::pin;
use std::rc::Rc;

/// Open it, and serve what is asked for in it until it closes.
pub(crate) async fn serve(worker: Rc<Worker>, mut origin: Origin, tunnel: Heard, alarm: Rc<Alarm>) {
    let Some(mut stream) = Box::pin(inside::open(&worker, &mut origin, tunnel, &alarm)).await else { return };
    if has_agreed_on_http2(&origin) {
        return Box::pin(streams::serve(&worker, origin, stream, Vec::new(), &alarm)).await;
    }
    let kept = Kept::default();
    while wait_for_request(&worker, &origin, &mut stream, &alarm, kept.is_new()).await {
        let wire = Wire::new(stream, Rc::clone(&worker.buffers));
        let mut burst = Box::pin(burst(&worker, &origin, wire, Rc::clone(&alarm), &kept));
        match contain(&worker, pin!(kept.run(burst.as_mut()))).await {
            Ok(Rest::Quiet(quiet)) => stream = quiet,
            // Neither is HTTP/2 begun here without having been agreed on, nor is there a tunnel in a tunnel.
            Ok(_) => return,
            Err(_) => return worker.counters().fail(Kind::Internal),
        }
    }
}
