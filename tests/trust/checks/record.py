"""What is recorded of requests, and that it costs none of them anything."""

from .. import cargo
from ..board import Outcome, Run, check


@check(
    41,
    "the request record",
    how="requests of ten kinds over HTTP/1.1 and h2c (plain, streamed, refused, failed over, left by their client, of 300 KB, not of "
    "UTF-8) with bodies recorded, into files that are closed and compressed meanwhile; every line is read again, held against "
    "conf/record.schema.json, and looked through for every secret that was sent",
    demand="100,000 requests leave 100,000 records that all fit the schema, 0 secrets",
    short=False,
)
def record(run: Run) -> Outcome:
    return cargo.tests("every_request_of_every_kind_leaves", "--test it", {"WEIR_RECORDS": "100000"})


@check(
    42,
    "a log server that fails",
    how="a strict stand-in for Loki hangs, refuses with 429 and 503, and answers garbage, 30 s each; two gateways take turns, one of them "
    "with that log server",
    demand="p99 as without it; afterwards every record is delivered, or counted as dropped, once",
    short=False,
)
def log_server(run: Run) -> Outcome:
    return cargo.tests("loki::", "--test it", {"WEIR_LOKI_SECONDS": "30"})
