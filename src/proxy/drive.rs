//! A client's request over HTTP/1.1: the phases in Pingora's order.
//!
//! Pingora's own driver makes a future of 16 KiB for each request, most of it for the cache and the
//! upstream connections that Weir does not use, and copies it when it begins. It is used for HTTP/2.

use std::sync::Arc;

use pingora_proxy::Session;

use crate::front::{Client, Serve, Turned};

use super::context::Context;
use super::{Weir, exchange, finish, reply, request};

impl Serve for Weir {
    async fn serve(&self, session: &mut Session, client: &Arc<Client>) {
        let mut ctx = Context::new(self.shared.clone());
        ctx.client = Some(client.clone());
        let served = match request::arrive(session, &mut ctx).await {
            Ok(true) => Ok(()),
            Ok(false) => exchange::run(&self.shared.leg, session, &mut ctx).await,
            Err(e) => Err(e),
        };
        let served = match served {
            // A head without a body has not left yet.
            Ok(()) => client.flush().await,
            // What broke off gets no end that could be taken for one.
            Err(error) => {
                reply::failure(session, &error, &mut ctx).await;
                Err(error)
            }
        };
        finish::ended(served.err().as_deref(), &mut ctx);
    }

    fn turned_away(&self, why: Turned) {
        self.shared.metrics.turned_away(why);
    }
}
