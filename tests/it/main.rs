//! The gateway as its users meet it: the real command, a written configuration, real sockets.
//!
//! One module a feature. `support` is the harness; it knows nothing of what is tested.

mod support;

mod addresses;
mod admin;
mod api_channels;
mod api_keys;
mod api_prices;
mod api_users;
mod bodies;
mod budgets;
mod canary;
mod channel_run;
mod channels;
mod clients;
mod commands;
mod config_page;
mod crash;
mod credentials;
mod disconnects;
mod doctor;
mod drain;
mod edge;
mod edges;
mod editing;
mod events_import;
mod failover;
mod faults;
mod fixture_costs;
mod keep_alive;
mod ledger;
mod life;
mod limits;
mod load;
mod loki;
mod models;
mod overview;
mod prices;
mod prices_import;
mod proxy_test;
mod records;
mod records_many;
mod requests;
mod routes;
mod smuggling;
mod streams;
mod strict;
mod tail;
mod tls;
mod upgrade;
