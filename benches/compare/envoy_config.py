"""Envoy's configuration."""

from .rules import MAX_CONNECTIONS, REFUSAL, STRIPPED, UPSTREAM_KEY

FILTERS = "type.googleapis.com/envoy.extensions.filters"


def bootstrap(port: int, upstream: int, keys: list[str]) -> dict:
    """What Envoy is started with."""
    manager = {
        "@type": f"{FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "clients",
        "codec_type": "HTTP1",
        "generate_request_id": False,
        "skip_xff_append": True,
        "server_header_transformation": "PASS_THROUGH",
        "stream_idle_timeout": "300s",
        # Where it closes, it closes at once, instead of waiting a second for the client to do so.
        "delayed_close_timeout": "0s",
        "local_reply_config": {
            "mappers": [
                {
                    "filter": {
                        "status_code_filter": {
                            "comparison": {"op": "EQ", "value": {"default_value": 401, "runtime_key": "refused"}}
                        }
                    },
                    "body_format_override": {
                        "text_format_source": {"inline_string": REFUSAL},
                        "content_type": "application/json",
                    },
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.api_key_auth",
                "typed_config": {
                    "@type": f"{FILTERS}.http.api_key_auth.v3.ApiKeyAuth",
                    "key_sources": [{"header": "authorization"}],
                    "credentials": [{"key": key, "client": f"client-{index}"} for index, key in enumerate(keys)],
                },
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{FILTERS}.http.router.v3.Router", "suppress_envoy_headers": True},
            },
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "request_headers_to_remove": STRIPPED,
                    "request_headers_to_add": [
                        {
                            "header": {"key": "authorization", "value": f"Bearer {UPSTREAM_KEY}"},
                            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                        }
                    ],
                    "response_headers_to_remove": ["server"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "mock", "timeout": "0s"}}],
                }
            ]
        },
    }
    return {
        # Nobody reads them here, so they are not made.
        "stats_config": {"stats_matcher": {"reject_all": True}},
        "static_resources": {
            "listeners": [
                {
                    "name": "clients",
                    "address": address(port),
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                {
                    "name": "mock",
                    "type": "STATIC",
                    "connect_timeout": "3s",
                    "circuit_breakers": {
                        "thresholds": [
                            {
                                "max_connections": MAX_CONNECTIONS,
                                "max_pending_requests": MAX_CONNECTIONS,
                                "max_requests": MAX_CONNECTIONS,
                            }
                        ]
                    },
                    "load_assignment": {
                        "cluster_name": "mock",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(upstream)}}]}],
                    },
                }
            ],
        },
    }


def address(port: int) -> dict:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
