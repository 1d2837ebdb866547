"""Secrets, and who may do what: canaries, tricks with paths and credentials, addresses, the admin API."""

import base64
import hashlib
import json
import random
import string

import local

from .. import cargo, sides, wire
from ..board import Outcome, Run, check
from ..servers import KEY, TOKEN, Weir, configuration
from ..sides import BODY, CHAT

RESTRICTED = "wk-trust-restricted-0123456789abcdef"
DISABLED = "wk-trust-disabled-0123456789abcdef"
EXPIRED = "wk-trust-expired-0123456789abcdef"


@check(
    33,
    "canary keys",
    how="unique secrets (client keys in each form, upstream keys, admin and metrics token, a private key, a key made and "
    "rotated over the API, passwords in URLs) through every operation, trouble and command at log level trace; then logs, "
    "answers, metrics, journal, store, documents and the output of every command are looked through",
    demand="0 hits",
    short=False,
)
def canaries(run: Run) -> Outcome:
    return cargo.tests("no_secret_is_in_any_log_file_metric_or_error", "--test it")


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def keys() -> list[dict]:
    """A key that may do all, one that may do little, and two that may do nothing."""
    return [
        {"name": "trust", "sha256": digest(KEY)},
        {"name": "restricted", "sha256": digest(RESTRICTED), "protocols": ["anthropic"], "models": ["claude-none"]},
        {"name": "disabled", "sha256": digest(DISABLED), "enabled": False},
        {"name": "expired", "sha256": digest(EXPIRED), "expires": "2020-01-01T00:00:00Z"},
    ]


# What is asked of the data plane, with a body that a key which may do all would be served for.
DATA_ROUTES = [
    ("POST", CHAT, BODY), ("POST", "/v1/completions", b'{"model":"gpt-4o","prompt":"x"}'),
    ("POST", "/v1/embeddings", b'{"model":"gpt-4o","input":"x"}'), ("POST", "/v1/responses", b'{"model":"gpt-4o","input":"x"}'),
    ("GET", "/v1/responses/resp_1", b""), ("GET", "/v1/files", b""), ("POST", "/v1/batches", b"{}"),
    ("POST", "/v1/images/generations", b'{"model":"gpt-4o"}'), ("POST", "/v1/audio/speech", b'{"model":"gpt-4o"}'),
    ("POST", "/v1/moderations", b'{"model":"gpt-4o"}'), ("GET", "/v1/models", b""), ("GET", "/v1/models/gpt-4o", b""),
    ("POST", "/v1/messages", b'{"model":"claude-x","messages":[]}'), ("POST", "/api/v1/messages", b'{"model":"claude-x","messages":[]}'),
    ("POST", "/claude/v1/messages", b'{"model":"claude-x","messages":[]}'),
    ("POST", "/v1/messages/count_tokens", b'{"model":"claude-x","messages":[]}'),
    ("POST", "/v1beta/models/gemini-2.5-flash:generateContent", b'{"contents":[]}'),
    ("POST", "/v1beta/models/gemini-2.5-flash:streamGenerateContent", b'{"contents":[]}'),
    ("POST", "/gemini/v1/chat", b'{"model":"gemini-2.5-flash","contents":[]}'), ("GET", "/v1beta/models", b""),
]
ADMIN_ROUTES = [
    ("GET", "/admin/api/keys", b""), ("POST", "/admin/api/keys", b'{"name":"stolen"}'), ("GET", "/admin/api/users", b""),
    ("POST", "/admin/api/users", b'{"name":"stolen"}'), ("GET", "/admin/api/channels", b""), ("PUT", "/admin/api/channels/order", b"[]"),
    ("GET", "/admin/api/usage?by=key", b""), ("GET", "/admin/api/prices", b""), ("POST", "/admin/api/reload", b""),
    ("POST", "/admin/api/users/price-rate", b'{"price_rate":"1"}'), ("GET", "/metrics", b""),
]


def bent(path: str) -> list[str]:
    """Other spellings of a path, as word lists for bypasses have them."""
    first, rest = path[1:].split("/", 1) if "/" in path[1:] else (path[1:], "")
    tail = f"/{rest}" if rest else ""
    last = path.rsplit("/", 1)
    encoded = f"{last[0]}/%{ord(last[1][0]):02x}{last[1][1:]}" if last[1] else path
    spellings = [
        path, f"//{path[1:]}", f"/{first}/{tail}", f"{path}/", f"{path}//", f"/.{path}", f"/..{path}", f"/x/..{path}", f"/{first}/.{tail}",
        f"/{first}/x/..{tail}", f"{path}/.", f"{path}/..", f"/%2e{path}", f"/%2e%2e{path}", f"/x/%2e%2e{path}", f"/x%2f..{path}",
        f"/{first}%2f{rest}", f"/{first}%2F{rest}", f"/{first}%252f{rest}", f"/{first}\\{rest}", f"/{first}%5c{rest}", encoded,
        path.upper(), path.title(), f"{path};", f"{path};x=1", f"/{first};x=1{tail}", f"{path}?", f"{path}??", f"{path}#", f"{path}%23",
        f"{path}%3f", f"{path}%00", f"{path}%20", f"{path}%09", f"{path}%0a", f"{path}%0d%0ax-api-key:%20{KEY}", f"{path}.json", f"{path}~",
        f"{path}*", f"{path}%", f"{path}%c0%af", f"/{first}%c0%af{rest}", f"/{first}%e0%80%af{rest}", f"/{first}%uff0f{rest}",
        f"/healthz/..{path}", f"/healthz;{path}", f"/healthz%2f..{path}", f"/readyz/../..{path}", f"/metrics/..{path}", f"/docs/..{path}",
        f"/v1/models/..{path}", f"/v1/models/%2e%2e{path}", f"http://127.0.0.1{path}", f"http://weir.test{path}", f"https://{KEY}@weir.test{path}",
        f"{path}?key", f"{path}?key=", f"{path}?key=&key=", f"{path}?x=/healthz", f"{path}?/healthz",
    ]
    return list(dict.fromkeys(spellings))


def wrong_credentials() -> list[list[str]]:
    """Header lines that let nobody in."""
    near = [KEY[:-1], KEY + "x", KEY[1:], KEY.upper(), KEY.swapcase(), KEY[::-1], KEY + "%00", f"{KEY},{KEY}", f"{KEY};", f'"{KEY}"',
            f"'{KEY}'", f"{KEY} {KEY}", KEY.replace("-", "_"), digest(KEY), digest(digest(KEY)), base64.b64encode(KEY.encode()).decode(),
            "*", "null", "undefined", "none", "true", "0", "-", "%", "..", "' OR 1=1--", "admin", "trust", TOKEN, "Bearer", "sk-trust",
            DISABLED, EXPIRED, "x" * 4000, "eyJhbGciOiJub25lIn0.e30.", KEY[:20] + "\x80" + KEY[21:], hashlib.sha256(digest(KEY).encode()).hexdigest()[:16]]
    lines = [[]]
    for value in near:
        lines += [[f"authorization: Bearer {value}"], [f"x-api-key: {value}"], [f"x-goog-api-key: {value}"]]
    # The right key where none is looked for, or in a form that is none.
    basic = base64.b64encode(f"{KEY}:".encode()).decode()
    lines += [[line] for line in [
        f"authorization: {KEY}", f"authorization: Basic {basic}", f"authorization: Token {KEY}", f"authorization: Bearer{KEY}",
        f"authorization: Bearer={KEY}", f"authorization: Bearer:{KEY}", f"authorization: Digest username={KEY}", f"proxy-authorization: Bearer {KEY}",
        f"api-key: {KEY}", f"x-api-token: {KEY}", f"x-auth-token: {KEY}", f"cookie: x-api-key={KEY}", f"cookie: authorization=Bearer {KEY}",
        f"x-forwarded-authorization: Bearer {KEY}", f"x-original-authorization: Bearer {KEY}", f"x_api_key: {KEY}", f"x-api-key2: {KEY}",
        f"referer: http://weir.test/?key={KEY}", f"x-original-url: {CHAT}?key={KEY}", f"x-rewrite-url: {CHAT}?key={KEY}", f"forwarded: for=127.0.0.1;key={KEY}",
        "x-forwarded-for: 127.0.0.1", "x-real-ip: 127.0.0.1", "x-weir-admin: true", "x-weir-key: trust", "x-http-method-override: HEAD",
    ]]
    # Two that disagree, in either order and form.
    lines += [pair for value in ["wrong", DISABLED, KEY[:-1]] for a, b in [
        ("authorization: Bearer {}", "x-api-key: {}"), ("x-api-key: {}", "x-api-key: {}"), ("authorization: Bearer {}", "authorization: Bearer {}"),
        ("x-goog-api-key: {}", "x-api-key: {}"), ("authorization: Bearer {}", "authorization: Basic {}"),
    ] for pair in ([a.format(KEY), b.format(value)], [a.format(value), b.format(KEY)])]
    return lines


def answered(connections: list, address: str, method: str, target: str, lines: list[str], body: bytes) -> int:
    """The status; the connection is used again while it can be. 0: closed without an answer."""
    head = "".join(f"{line}\r\n" for line in lines)
    request = (f"{method} {target} HTTP/1.1\r\nhost: weir.test\r\n{head}content-type: application/json\r\n"
               f"content-length: {len(body)}\r\n\r\n").encode("latin-1") + body
    for fresh in (False, True):
        if fresh or not connections:
            connections[:] = [wire.Reader(wire.dial(address, 10))]
        reader = connections[0]
        try:
            reader.connection.sendall(request)
            status, headers, _ = reader.answer(method)
        except (wire.Broken, OSError, ValueError):
            reader.connection.close()
            connections.clear()
            if fresh:
                return 0
            continue
        if headers.get("connection", "").lower() == "close" or status == 400:
            reader.connection.close()
            connections.clear()
        return status
    return 0


@check(
    34,
    "tricks with paths and credentials",
    how="some 60 spellings of each route's path, without a key and with one that may not; some 170 credentials that let nobody in "
    "on each route of both listeners; each listener's paths on the other one",
    demand="0 answers of 2xx for whoever may not",
)
def tricks(run: Run) -> Outcome:
    draw, let_in, asks, statuses, right = random.Random(34), [], 0, {}, 0
    with local.Demo() as demo, Weir(demo.mock, demo.mock_key, {"keys": keys(), "admin": {"metrics_token": "metrics-of-trust"}}) as weir:
        connections = {weir.address: [], weir.admin: []}

        def ask(address, method, target, lines, body, why):
            nonlocal asks
            status = answered(connections[address], address, method, target, lines, body)
            asks += 1
            statuses[status] = statuses.get(status, 0) + 1
            if 200 <= status < 300:
                let_in.append(f"{why}: {method} {target[:60]} {lines} → {status}")

        # Whoever may is let in, or nothing is tested.
        for method, path, body in DATA_ROUTES:
            right += 200 <= answered(connections[weir.address], weir.address, method, path, [f"x-api-key: {KEY}"], body) < 300
        for method, path, body in ADMIN_ROUTES[:-1]:
            if method == "GET":
                status = answered(connections[weir.admin], weir.admin, method, path, [f"authorization: Bearer {TOKEN}"], body)
                right += 200 <= status < 300
        wrong = wrong_credentials()
        cases = []
        for address, routes, other in [(weir.address, DATA_ROUTES, ADMIN_ROUTES), (weir.admin, ADMIN_ROUTES, DATA_ROUTES)]:
            for method, path, body in routes:
                for spelling in bent(path.split("?")[0]):
                    cases.append((address, method, spelling, [], body, "no key"))
                    cases.append((address, method, spelling, [f"x-api-key: {RESTRICTED}"], body, "a key that may not"))
                    if address == weir.admin:
                        cases.append((address, method, spelling, [f"authorization: Bearer {KEY}"], body, "a client's key"))
                # Of what is read alone by `bent`, the query is left out.
                cases += [(address, method, path, lines, body, "a wrong credential") for lines in wrong
                          if address == weir.address or TOKEN not in str(lines)]
            for method, path, body in other:
                for lines in ([f"authorization: Bearer {TOKEN}"], [f"x-api-key: {KEY}"], []):
                    cases.append((address, method, path, lines, body, "the other listener"))
        # Open to everybody, and saying nothing.
        open_paths = {"/healthz", "/readyz"}
        cases = [case for case in cases if case[2].split("?")[0] not in open_paths]
        # A key that may do little may still ask what it may do.
        cases = [case for case in cases if not (case[5] == "a key that may not" and "models" in case[2] and case[1] == "GET")]
        if not run.long:
            cases = draw.sample(cases, 2500)
        for case in cases:
            ask(*case)
        weir.still_runs()
    kinds = ", ".join(f"{count} × {status or 'closed'}" for status, count in sorted(statuses.items()))
    demanded = len(DATA_ROUTES) + sum(method == "GET" for method, _, _ in ADMIN_ROUTES[:-1])
    figure = f"{asks:,} requests, {len(let_in)} let in"
    note = "; ".join(let_in[:4]) or f"answers: {kinds}"
    if right < demanded - 4:
        return Outcome(False, figure, note=f"only {right} of {demanded} requests of those who may were served")
    return Outcome(not let_in, figure, note=note)


FORBIDDEN = ["127.0.0.1", "127.1.2.3", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]",
             "[::127.0.0.1]", "localhost", "LOCALHOST", "localhost.", "ip6-localhost", "0177.0.0.1", "0177.0.0.01", "0x7f.0.0.1", "0x7f000001", "0X7F.1",
             "2130706433", "017700000001", "127.1", "127.0.1", "127.0.0.1.", "0", "169.254.169.254", "0xa9fea9fe", "2852039166", "[fe80::1]", "[fd00:ec2::254]",
             "[::ffff:169.254.169.254]", "100.100.100.200", "10.0.0.1", "192.168.0.1", "172.16.0.1", "100.64.0.1", "[fd00::1]", "224.0.0.1", "255.255.255.255"]


@check(
    35,
    "addresses that channels may not reach",
    how="channels made over the API that lead to loopback, metadata and private addresses: as IPv4, IPv6, mapped, octal, hex and "
    "short, by a name, and by redirects of every kind; what listens there counts. Names that change: the resolver's own test",
    demand="0 connections",
)
def forbidden(run: Run) -> Outcome:
    redirects = [301, 302, 303, 307, 308]
    connects, refused, failed, passed_on = [], 0, 0, 0
    with wire.Upstream() as inside:
        counting = [inside]
        try:
            counting.append(wire.Upstream(host="::1", port=inside.port).__enter__())
        except OSError:
            pass
        location = f"http://{inside.address}/v1/chat/completions".encode()

        def redirect(number, connection):
            status = redirects[number % len(redirects)]
            connection.sendall(b"HTTP/1.1 %d Moved\r\nlocation: %s\r\ncontent-length: 0\r\n\r\n" % (status, location))
            return True

        with wire.Upstream(redirect) as moved, Weir(moved.address) as weir:
            bearer = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
            for number, host in enumerate(FORBIDDEN):
                channel = {"name": f"inside-{number}", "protocol": "openai", "base_url": f"http://{host}:{inside.port}", "models": [f"inside-{number}"],
                           "timeouts": {"connect": "500ms"}, "keys": [{"name": "main", "value": "sk-inside"}]}
                status, _, said = local.request(weir.admin, "POST", "/admin/api/channels", bearer, json.dumps(channel))
                if status == 400:
                    refused += 1
                    continue
                if status != 201:
                    return Outcome(False, "a channel was neither made nor refused", note=f"{host}: {status} {said[:200]!r}")
                body = json.dumps({"model": f"inside-{number}", "messages": []}).encode()
                answer = wire.ask(weir.address, wire.post(CHAT, KEY, body), timeout=10)
                failed += answer[0] == 502
                if answer[0] != 502:
                    connects.append(f"{host} was answered with {answer[0]}")
            for status in redirects:
                answer = wire.ask(weir.address, wire.post(CHAT, KEY, BODY))
                passed_on += answer[0] == status and answer[1].get("location") == location.decode()
            weir.still_runs()
            refusals = weir.metrics().count("weir_channel_addresses_refused_total{")
        connects += [f"{listener.address}: {seen[:60]!r}" for listener in counting for seen in listener.seen() or
                     ([b"a connection"] * len(listener.connections))]
        for listener in counting[1:]:
            listener.__exit__()
    figure = (f"{len(connects)} connections: of {len(FORBIDDEN)} hosts {refused} were refused when they were written, {failed} when they were "
              f"looked up; {passed_on} of {len(redirects)} redirects passed on")
    passed = not connects and refused + failed == len(FORBIDDEN) and passed_on == len(redirects) and failed > 0 and refusals > 0
    if passed and run.long:
        rebinding = cargo.tests("channels::resolve", "--lib")
        passed, figure = rebinding.passed, f"{figure}; names that change: {rebinding.figure}"
    return Outcome(passed, figure, note="; ".join(connects[:3]))


ADMIN_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "X" * 40]
# Without the stream of events, which has no end.
ADMIN_PATHS = ["keys", "keys/{id}", "keys/{id}/rotate", "users", "users/{id}", "users/price-rate", "channels", "channels/{id}", "channels/order",
               "channels/{id}/run", "channels/{id}/runs", "usage", "requests", "requests/{id}", "overview", "events/import", "proxy/test", "prices", "config",
               "reload", "login", "openapi.json", "changes", "", "nothing"]
IDS = ["x", "declared", "made", "order", "price-rate", "0" * 16, "%00", "%2e%2e", "..", "a%2fb", "%ff%fe", "é", "💥", "x" * 3000, "%25s%25n", "'", "null", "-1", "%0d%0a", " "]
NAMES = ["name", "user", "key", "keys", "models", "channels", "limits", "expires", "enabled", "protocols", "protocol", "base_url", "value", "rpm", "tpm",
         "budget_usd", "day", "price_rate", "max_keys", "timeouts", "connect", "priority", "weight", "retry", "cooldown", "on", "users", "overlap", "model",
         "input", "output", "model_map", "inject_usage", "sha256", "id", "role", "password", "probe", "value_file", "__proto__", "", "é"]


def value(draw: random.Random, depth: int = 0):
    """Any JSON, mostly of the names that the API knows."""
    kind = draw.randrange(9 if depth < 4 else 6)
    if kind == 0:
        return draw.choice([None, True, False])
    if kind == 1:
        return draw.choice([0, 1, -1, 2**31, 2**63, 2**64, -(2**63), 10**30, 0.5, -0.0, 1e308])
    if kind in (2, 3):
        return draw.choice(["", "x", "gpt-*", "made", "declared", "openai", "http://127.0.0.1:1", "https://h", "1s", "1000000000000d", "1.2", "-1", "1e9",
                            "2027-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "\0", "a\nb", "${HOME}", "é" * 50, "x" * 5000, "*", "/etc/passwd", "💥"])
    if kind in (4, 5):
        return "".join(draw.choice(string.printable) for _ in range(draw.randrange(20)))
    if kind == 6:
        return [value(draw, depth + 1) for _ in range(draw.randrange(4))]
    return {draw.choice(NAMES): value(draw, depth + 1) for _ in range(draw.randrange(6))}


def raw_body(draw: random.Random) -> bytes:
    kind = draw.randrange(10)
    if kind == 0:
        return b""
    if kind == 1:
        return bytes(draw.randrange(256) for _ in range(draw.randrange(64)))
    if kind == 2:
        return b"[" * draw.choice([10, 127, 200, 10_000])
    if kind == 3:
        return b'{"name":"a","name":"b"}'
    if kind == 4:
        return b'{"name":"' + b"x" * draw.choice([100, 70_000]) + b'"}'
    text = json.dumps(value(draw)).encode("utf-8", "replace")
    return text[:draw.randrange(len(text) + 1)] if kind == 5 else text


def query(draw: random.Random) -> str:
    names = ["by", "from", "to", "step", "limit", "cursor", "key", "status", "x"]
    values = ["key", "model", "day", "hour", "minute", "0", "-1", "9" * 30, "2026-01-01T00:00:00Z", "", "%00", "%ff", "é", "x" * 500]
    return "&".join(f"{draw.choice(names)}={draw.choice(values)}" for _ in range(draw.randrange(4)))


def in_shape(body: bytes) -> bool:
    """Whether an error says what the API's errors say."""
    try:
        error = json.loads(body)["error"]
        return isinstance(error["code"], str) and isinstance(error["message"], str) and bool(error["message"])
    except (ValueError, KeyError, TypeError):
        return False


@check(
    36,
    "the admin API under fuzzing",
    how="every path of the API with methods, ids, queries, bodies and credentials drawn by lot; schemathesis asks what the "
    "OpenAPI document allows (tests/tools/test_schemathesis.py)",
    demand="0 answers of 5xx, 0 of 2xx without the token, every error in the API's own shape",
)
def admin(run: Run) -> Outcome:
    draw, statuses, wrong, reader = random.Random(36), {}, [], None
    count = run.many(40_000, 2500)
    with wire.Upstream() as upstream, Weir(upstream.address) as weir:
        for number in range(count):
            method = draw.choice(ADMIN_METHODS[:5] if draw.random() < 0.85 else ADMIN_METHODS)
            identifier = draw.choice(IDS).encode().decode("latin-1")
            path = "/admin/api/" + draw.choice(ADMIN_PATHS).replace("{id}", identifier)
            asked = query(draw).encode().decode("latin-1")
            target = f"{path}?{asked}" if asked else path
            credential = draw.choice([f"authorization: Bearer {TOKEN}\r\n"] * 6 + ["", f"authorization: Bearer {KEY}\r\n", f"x-api-key: {TOKEN}\r\n",
                                      f"authorization: Basic {TOKEN}\r\n", f"authorization: Bearer {TOKEN}\r\nauthorization: Bearer {TOKEN}\r\n"])
            may = credential == f"authorization: Bearer {TOKEN}\r\n"
            body = raw_body(draw)
            head = f"{method} {target} HTTP/1.1\r\nhost: weir.test\r\n{credential}content-length: {len(body)}\r\n\r\n"
            status, said = 0, b""
            try:
                reader = reader or wire.Reader(wire.dial(weir.admin, 20))
                reader.connection.sendall(head.encode("latin-1") + body)
                status, headers, said = reader.answer(method)
                if headers.get("connection", "").lower() == "close" or method in ("CONNECT", "TRACE") or len(body) > 60_000:
                    raise wire.Broken("not again")
            except (wire.Broken, OSError, ValueError):
                if reader is not None:
                    reader.connection.close()
                reader = None
            statuses[status] = statuses.get(status, 0) + 1
            line = f"{method} {target[:50]!r} {body[:40]!r}: {status} {said[:60]!r}"
            if status >= 500:
                wrong.append(f"a failure: {line}")
            elif 200 <= status < 300 and not may:
                wrong.append(f"let in: {line}")
            # What cannot be read as HTTP has no path, and its answer no body.
            elif status >= 400 and method != "HEAD" and not in_shape(said) and not (status in (400, 431) and not said):
                wrong.append(f"another shape: {line}")
        weir.still_runs()
        if statuses.get(0, 0) > count // 10 or statuses.get(200, 0) + statuses.get(201, 0) < count // 50:
            wrong.append(f"too few were answered: {statuses}")
    kinds = ", ".join(f"{number} × {status or 'closed'}" for status, number in sorted(statuses.items()))
    return Outcome(not wrong, f"{count:,} requests, {len(wrong)} answers that must not be", note="; ".join(wrong[:3]) or f"answers: {kinds}")


@check(
    37,
    "the time that a key's look-up takes",
    how="a million look-ups in an order drawn by lot of keys that share all but their last nine octets with one that exists, and of keys that "
    "share nothing; Welch's t over their times, the slowest twentieth left out. The same test must find a comparison that stops early",
    demand="|t| < 4.5",
    short=False,
)
def timing(run: Run) -> Outcome:
    return cargo.tests("a_key_that_is_almost_right", "-p weir-filters --test timing", {"WEIR_TRUST_LOOKUPS": "1000000"}, release=True)
