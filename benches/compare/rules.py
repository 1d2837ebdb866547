"""What every proxy does alike."""

import json

UPSTREAM_KEY = "upstream-key"
MODEL = "bench-model"
REFUSAL = json.dumps(
    {
        "error": {
            "message": "This API key is not known here.",
            "type": "invalid_request_error",
            "code": "invalid_api_key",
        }
    }
)
STRIPPED = ["cookie", "x-forwarded-for", "x-api-key"]
# Enough for 1,000 streams, each with a connection on both sides, and for an idle pool of any work here.
MAX_CONNECTIONS = 4096
KEPT_CONNECTIONS = 1024
# A connection serves a whole measurement.
MAX_REQUESTS_PER_CONNECTION = 1_000_000
