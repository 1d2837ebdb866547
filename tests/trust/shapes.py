"""Requests that two readers could understand in two ways, and their neighbours that only look like it.

Each is bytes as a client would write them. The classes are those of http_desync_guardian: compliant (RFC 9112 to the
letter), acceptable (not quite, but everybody reads it the same), ambiguous (readers differ), severe (an attack).
"""

from dataclasses import dataclass

from .servers import KEY

COMPLIANT, ACCEPTABLE, AMBIGUOUS, SEVERE = "compliant", "acceptable", "ambiguous", "severe"

BODY = b'{"model":"gpt-4o"}'
LENGTH = len(BODY)
LINE = b"POST /v1/chat/completions HTTP/1.1"


@dataclass(frozen=True)
class Shape:
    """One of them."""

    name: str
    kind: str
    data: bytes
    # The hidden request is in what its client has framed as a body, or behind the end of the connection: nobody may
    # ever see it as a request.
    never: bool = False


def hidden(mark: bytes = b"") -> bytes:
    """What an attacker would like to be taken for a request of its own; it would be served."""
    return request(LINE, b"x-hidden: 1\r\n" + mark + b"content-length: %d\r\n" % LENGTH, BODY)


def request(line: bytes, lines: bytes, body: bytes = b"", host: bytes = b"host: weir\r\n") -> bytes:
    return line + b"\r\n" + host + b"x-api-key: " + KEY.encode() + b"\r\ncontent-type: application/json\r\n" + lines + b"\r\n" + body


def chunks(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end


def post(lines: bytes, body: bytes) -> bytes:
    return request(LINE, lines, body)


def all_shapes() -> list[Shape]:
    shapes = [*lengths(), *codings(), *both(), *chunk_lines(), *line_ends(), *names(), *request_lines(), *hosts(), *bodiless(),
              *following()]
    named = {shape.name for shape in shapes}
    if len(named) != len(shapes):
        raise ValueError("two shapes have one name")
    return shapes


def lengths():
    """Content-Length, written in every way."""
    after = BODY + hidden()
    whole = len(after)
    plain = b"content-length: %d\r\n" % LENGTH
    yield Shape("a length", COMPLIANT, post(plain, BODY))
    yield Shape("a length in capitals", COMPLIANT, post(b"CONTENT-LENGTH: %d\r\n" % LENGTH, BODY))
    yield Shape("a length without a space", COMPLIANT, post(b"Content-Length:%d\r\n" % LENGTH, BODY))
    yield Shape("a length between tabs", COMPLIANT, post(b"Content-Length:\t%d\t\r\n" % LENGTH, BODY))
    yield Shape("a length with zeros in front", ACCEPTABLE, post(b"Content-Length: 000%d\r\n" % LENGTH, BODY))
    yield Shape("a length twice", ACCEPTABLE, post(plain + plain, BODY))
    yield Shape("a length in a list", ACCEPTABLE, post(b"Content-Length: %d, %d\r\n" % (LENGTH, LENGTH), BODY))
    values = {
        "with a plus": b"+%d" % LENGTH, "with a minus": b"-%d" % LENGTH, "in hex": b"0x%x" % LENGTH,
        "in octal": b"0o22", "with a fraction": b"%d.0" % LENGTH, "with an exponent": b"18e0",
        "with an underscore": b"1_8", "with a space inside": b"1 8", "with a letter behind": b"%da" % LENGTH,
        "with a semicolon": b"%d;" % LENGTH, "with a comma behind": b"%d," % LENGTH, "with a comma in front": b",%d" % LENGTH,
        "that is empty": b"", "that is no number": b"many", "beyond 64 bits": b"18446744073709551634",
        "beyond 64 bits by far": b"9" * 40, "in quotes": b'"%d"' % LENGTH, "in full-width digits": "１８".encode(),
        "with a vertical tab": b"\x0b%d" % LENGTH, "with a form feed": b"%d\x0c" % LENGTH, "with a NUL": b"%d\x00" % LENGTH,
        "with a no-break space": b"\xa0%d" % LENGTH, "twice, different": b"%d, %d" % (LENGTH, whole),
        "twice, one empty": b"%d,,%d" % (LENGTH, LENGTH), "by a plus and a zero": b"+0",
    }
    for how, value in values.items():
        yield Shape(f"a length {how}", SEVERE, post(b"Content-Length: " + value + b"\r\n", after))
    yield Shape("two lengths, the smaller first", SEVERE, post(plain + b"Content-Length: %d\r\n" % whole, after), never=True)
    yield Shape("two lengths, the larger first", SEVERE, post(b"Content-Length: %d\r\n" % whole + plain, after), never=True)
    yield Shape("two lengths, one of them zero", SEVERE, post(b"Content-Length: 0\r\n" + plain, BODY))
    yield Shape("a length and a longer body", AMBIGUOUS, post(plain, after))


def codings():
    """Transfer-Encoding, written in every way, with a body in chunks and one hidden behind it."""
    body = chunks(BODY)
    yield Shape("chunks", COMPLIANT, post(b"Transfer-Encoding: chunked\r\n", body))
    yield Shape("chunks in capitals", COMPLIANT, post(b"TRANSFER-ENCODING: CHUNKED\r\n", body))
    yield Shape("chunks between tabs", COMPLIANT, post(b"Transfer-Encoding:\tchunked\t\r\n", body))
    values = {
        "twice in a list": b"chunked, chunked", "behind gzip": b"gzip, chunked", "in front of gzip": b"chunked, gzip",
        "with identity behind": b"chunked, identity", "with identity in front": b"identity, chunked",
        "named xchunked": b"xchunked", "named chunkedx": b"chunkedx", "named chunke": b"chunke",
        "with a parameter": b"chunked;a=b", "in quotes": b'"chunked"', "in single quotes": b"'chunked'",
        "with a vertical tab": b"\x0bchunked", "with a form feed": b"chunked\x0c", "with a NUL": b"chunked\x00",
        "with a no-break space": b"\xa0chunked", "with a comma in front": b", chunked", "with a comma behind": b"chunked,",
        "split by a space": b"chun ked", "that is empty": b"", "named identity": b"identity", "with a long s": "chunkeſd".encode(),
        "with a Kelvin sign": "chun\u212aed".encode(), "with a colon": b": chunked", "with a line feed": b"\nchunked",
        "with a carriage return": b"\rchunked", "as deflate": b"deflate", "with a quality": b"chunked;q=0.5",
    }
    for how, value in values.items():
        data = post(b"Transfer-Encoding: " + value + b"\r\n", body + hidden())
        yield Shape(f"a coding {how}", SEVERE, data)
    pairs = {"chunked and identity": (b"chunked", b"identity"), "identity and chunked": (b"identity", b"chunked"),
             "chunked twice": (b"chunked", b"chunked"), "chunked and nonsense": (b"chunked", b"cow"),
             "nonsense and chunked": (b"cow", b"chunked")}
    for how, (first, second) in pairs.items():
        lines = b"Transfer-Encoding: " + first + b"\r\nTransfer-Encoding: " + second + b"\r\n"
        yield Shape(f"two codings, {how}", SEVERE, post(lines, body + hidden()))
    old = request(LINE.replace(b"1.1", b"1.0"), b"Transfer-Encoding: chunked\r\n", body + hidden())
    yield Shape("chunks in HTTP/1.0", SEVERE, old)
    kept = request(LINE.replace(b"1.1", b"1.0"), b"Connection: keep-alive\r\nTransfer-Encoding: identity, chunked\r\n",
                   body + hidden())
    yield Shape("chunks in HTTP/1.0 that is kept", SEVERE, kept)


def both():
    """A length and a coding in one head: CL.TE, TE.CL, and with what hides one of the two from some readers."""
    body = chunks(BODY) + hidden()
    for size, how in [(len(body), "of all"), (LENGTH, "of the body"), (4, "of a part"), (0, "of nothing"),
                      (len(chunks(BODY)), "of the chunks")]:
        length = b"Content-Length: %d\r\n" % size
        yield Shape(f"a length {how}, then chunks", SEVERE, post(length + b"Transfer-Encoding: chunked\r\n", body), never=True)
        yield Shape(f"chunks, then a length {how}", SEVERE, post(b"Transfer-Encoding: chunked\r\n" + length, body), never=True)
    length = b"Content-Length: %d\r\n" % len(body)
    disguises = {
        "a space before its colon": b"Transfer-Encoding : chunked\r\n", "a tab before its colon": b"Transfer-Encoding\t: chunked\r\n",
        "a space in front": b" Transfer-Encoding: chunked\r\n", "a folded value": b"Transfer-Encoding:\r\n chunked\r\n",
        "an underscore": b"Transfer_Encoding: chunked\r\n", "a NUL in its name": b"Transfer\x00Encoding: chunked\r\n",
        "a prefix": b"X-Transfer-Encoding: chunked\r\n", "a bare line feed in front": b"X-A: 1\nTransfer-Encoding: chunked\r\n",
        "a bare carriage return in front": b"X-A: 1\rTransfer-Encoding: chunked\r\n",
        "no colon": b"Transfer-Encoding chunked\r\n", "two colons": b"Transfer-Encoding:: chunked\r\n",
        "a vertical tab in front": b"\x0bTransfer-Encoding: chunked\r\n", "a byte order mark": b"\xef\xbb\xbfTransfer-Encoding: chunked\r\n",
        "a line feed behind its name": b"Transfer-Encoding\n: chunked\r\n", "an accent": "Transfer-Éncoding: chunked\r\n".encode(),
        "an odd value": b"Transfer-Encoding: xchunked\r\n", "a fold in the line before": b"X-A: 1\r\n \r\nTransfer-Encoding: chunked\r\n",
    }
    for how, line in disguises.items():
        kind = COMPLIANT if how == "a prefix" else SEVERE
        # With a name that means nothing the length is the only framing: all is one body, and not JSON.
        yield Shape(f"a length and a coding with {how}", kind, post(length + line, body), never=True)
    for how, line in {"an underscore": b"Content_Length: 4\r\n", "a space": b"Content-Length : 4\r\n",
                      "a fold": b"Content-Length:\r\n 4\r\n", "a NUL": b"Content-Length\x00: 4\r\n"}.items():
        yield Shape(f"chunks and a length with {how}", SEVERE, post(b"Transfer-Encoding: chunked\r\n" + line, body))


def chunk_lines():
    """The lines around chunks."""
    size = b"%x" % LENGTH

    def chunked(name, kind, data):
        return Shape(f"chunks with {name}", kind, post(b"Transfer-Encoding: chunked\r\n", data))

    good = size + b"\r\n" + BODY + b"\r\n"
    end = b"0\r\n\r\n"
    yield chunked("an extension", COMPLIANT, size + b";a=b\r\n" + BODY + b"\r\n" + end)
    yield chunked("a quoted extension", COMPLIANT, size + b';a="b;c"\r\n' + BODY + b"\r\n" + end)
    yield chunked("zeros in front", COMPLIANT, b"000" + size + b"\r\n" + BODY + b"\r\n" + end)
    yield chunked("several zeros at the end", COMPLIANT, good + b"000\r\n\r\n")
    yield chunked("an extension at the end", COMPLIANT, good + b"0;a\r\n\r\n")
    yield chunked("a trailer", COMPLIANT, good + b"0\r\nx-a: 1\r\n\r\n")
    yield chunked("a length as a trailer", ACCEPTABLE, good + b"0\r\nContent-Length: 5\r\n\r\n")
    yield chunked("a coding as a trailer", ACCEPTABLE, good + b"0\r\nTransfer-Encoding: chunked\r\n\r\n")
    yield chunked("single bytes", COMPLIANT, b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + end)
    yield chunked("a space behind the size", ACCEPTABLE, size + b" \r\n" + BODY + b"\r\n" + end)
    attacks = {
        "a minus": b"-" + good + end, "a plus": b"+" + good + end, "0x": b"0x" + good + end, "a space in front": b" " + good + end,
        "no size": b"\r\n" + BODY + b"\r\n" + end, "letters for a size": b"xyz\r\n" + BODY + b"\r\n" + end,
        "a size beyond 64 bits": b"10000000000000012\r\n" + BODY + b"\r\n" + end,
        "a size of 2^64 - 1": b"ffffffffffffffff\r\n" + BODY + b"\r\n" + end,
        "bare line feeds": size + b"\n" + BODY + b"\n0\n\n", "a bare line feed behind the size": size + b"\n" + BODY + b"\r\n" + end,
        "a bare line feed behind the data": size + b"\r\n" + BODY + b"\n" + end,
        "a bare carriage return behind the size": size + b"\r" + BODY + b"\r\n" + end,
        "two bytes too many": size + b"\r\n" + BODY + b"xx\r\n" + end, "no line end behind the data": size + b"\r\n" + BODY + end,
        "a bare line feed in an extension": size + b";a\nb\r\n" + BODY + b"\r\n" + end,
        "a bare carriage return in an extension": size + b";a\rb\r\n" + BODY + b"\r\n" + end,
        "a NUL in an extension": size + b";\x00\r\n" + BODY + b"\r\n" + end,
        "an underscore in the size": b"1_2\r\n" + BODY + b"\r\n" + end, "a dot in the size": b"12.0\r\n" + BODY + b"\r\n" + end,
        "a bare line feed at the end": good + b"0\n\n", "a bare line feed behind the last size": good + b"0\n\r\n",
        "a bare line feed for the last line": good + b"0\r\n\n", "a trailer with a bare line feed": good + b"0\r\nx-a: 1\n\r\n",
        "a comma in the size": b"12,0\r\n" + BODY + b"\r\n" + end,
    }
    for how, data in attacks.items():
        yield chunked(how, SEVERE, data + hidden())
    yield chunked("an endless size", SEVERE, b"0" * 70_000 + good + end)
    yield chunked("an endless extension", SEVERE, size + b";" + b"a" * 70_000 + b"\r\n" + BODY + b"\r\n" + end)


def line_ends():
    """Heads whose lines end in other ways than CRLF."""
    lines = [LINE, b"host: weir", b"x-api-key: " + KEY.encode(), b"content-length: %d" % LENGTH]
    for name, end in {"bare line feeds": b"\n", "bare carriage returns": b"\r", "line feeds and carriage returns": b"\n\r",
                      "two carriage returns": b"\r\r\n"}.items():
        yield Shape(f"a head with {name}", SEVERE, end.join(lines) + end + end + BODY + hidden())
    for at in range(1, 5):
        mixed = b""
        for number, line in enumerate(lines, 1):
            mixed += line + (b"\n" if number == at else b"\r\n")
        yield Shape(f"a head with a bare line feed behind line {at}", SEVERE, mixed + b"\r\n" + BODY + hidden())
    yield Shape("a head that ends in a bare line feed", SEVERE, b"\r\n".join(lines) + b"\r\n\n" + BODY + hidden())
    yield Shape("an empty line in front", COMPLIANT, b"\r\n" + post(b"content-length: %d\r\n" % LENGTH, BODY))
    yield Shape("a bare line feed in front", AMBIGUOUS, b"\n" + post(b"content-length: %d\r\n" % LENGTH, BODY))
    yield Shape("a space in front", SEVERE, b" " + post(b"content-length: %d\r\n" % LENGTH, BODY))


def names():
    """Names and values of headers."""
    tail = b"content-length: %d\r\n" % LENGTH
    yield Shape("an unknown header", COMPLIANT, post(b"x-a: 1\r\n" + tail, BODY))
    yield Shape("a header without a value", COMPLIANT, post(b"x-a:\r\n" + tail, BODY))
    yield Shape("a header with bytes beyond ASCII", ACCEPTABLE, post(b"x-a: \xe9\r\n" + tail, BODY))
    bad = {"a space in its name": b"x a: 1", "no name": b": 1", "no colon": b"no colon", "a NUL in its name": b"x\x00a: 1",
           "a NUL in its value": b"x-a: 1\x00", "a bare carriage return in its value": b"x-a: 1\r2", "a slash in its name": b"x/a: 1",
           "brackets in its name": b"x[a]: 1", "a fold": b"x-a: 1\r\n 2", "a fold by a tab": b"x-a: 1\r\n\t2",
           "a delete in its value": b"x-a: \x7f", "a backspace in its value": b"x-a: \x08", "a space before its colon": b"x-a : 1"}
    for how, line in bad.items():
        yield Shape(f"a header with {how}", SEVERE, post(line + b"\r\n" + tail, BODY + hidden()))
    inside = b"x-a: 1\r\n\r\n" + hidden()
    yield Shape("a head that ends early", AMBIGUOUS, post(b"content-length: 0\r\n", inside), never=True)
    for how, line in {"its length": b"content-length", "its host": b"host", "its coding": b"transfer-encoding",
                      "its key": b"x-api-key", "itself": b"connection"}.items():
        yield Shape(f"a connection header that names {how}", ACCEPTABLE, post(b"connection: keep-alive, " + line + b"\r\n" + tail, BODY))
    yield Shape("a hundred kilobytes of headers", SEVERE, post(b"x-a: %s\r\n" % (b"a" * 100_000) + tail, BODY))
    yield Shape("a thousand headers", SEVERE, post(b"x-a: 1\r\n" * 1_000 + tail, BODY))


def request_lines():
    """The first line."""
    tail = b"content-length: %d\r\n" % LENGTH
    path = b"/v1/chat/completions"

    def line(name, kind, text):
        return Shape(f"a first line with {name}", kind, request(text, tail, BODY))

    yield line("a query", COMPLIANT, b"POST " + path + b"?a=b HTTP/1.1")
    yield line("a whole URL", COMPLIANT, b"POST http://weir" + path + b" HTTP/1.1")
    yield line("a whole URL to elsewhere", SEVERE, b"POST http://elsewhere" + path + b" HTTP/1.1")
    yield line("a user in its URL", SEVERE, b"POST http://weir@elsewhere" + path + b" HTTP/1.1")
    for how, text in {
        "two spaces": b"POST  " + path + b" HTTP/1.1", "a space in its path": b"POST /v1/chat/ completions HTTP/1.1",
        "a tab": b"POST\t" + path + b"\tHTTP/1.1", "no version": b"POST " + path, "HTTP/0.9": b"POST " + path + b" HTTP/0.9",
        "HTTP/1.2": b"POST " + path + b" HTTP/1.2", "HTTP/2.0": b"POST " + path + b" HTTP/2.0", "HTTP/1": b"POST " + path + b" HTTP/1",
        "HTTP/01.1": b"POST " + path + b" HTTP/01.1", "http in small letters": b"POST " + path + b" http/1.1",
        "a space behind its version": b"POST " + path + b" HTTP/1.1 ", "two versions": b"POST " + path + b" HTTP/1.1 HTTP/1.0",
        "a NUL": b"POST " + path + b"\x00 HTTP/1.1", "a bare carriage return": b"POST " + path + b"\r HTTP/1.1",
        "a fragment": b"POST " + path + b"#a HTTP/1.1", "a backslash": b"POST /v1\\chat/completions HTTP/1.1",
        "dots": b"POST /v1/files/../chat/completions HTTP/1.1", "encoded dots": b"POST /v1/files/%2e%2e/chat/completions HTTP/1.1",
        "two slashes": b"POST /v1//chat/completions HTTP/1.1", "an encoded slash": b"POST /v1%2fchat/completions HTTP/1.1",
        "an encoded line end": b"POST /v1/chat%0d%0ax HTTP/1.1", "no path": b"POST  HTTP/1.1", "a path without a slash": b"POST v1 HTTP/1.1",
        "a star": b"POST * HTTP/1.1", "an odd method": b"PO(ST " + path + b" HTTP/1.1", "a method in small letters": b"post " + path + b" HTTP/1.1",
    }.items():
        yield line(how, SEVERE, text)


def hosts():
    """Host."""
    tail = b"content-length: %d\r\n" % LENGTH
    bad = {"missing": b"", "twice": b"host: weir\r\nhost: weir\r\n", "twice, different": b"host: weir\r\nhost: elsewhere\r\n",
           "with a space": b"host: weir elsewhere\r\n", "with a slash": b"host: weir/a\r\n", "with a user": b"host: a@weir\r\n",
           "in a list": b"host: weir, elsewhere\r\n", "with a NUL": b"host: weir\x00\r\n", "with a space before its colon": b"host : weir\r\n"}
    for how, host in bad.items():
        yield Shape(f"a host {how}", SEVERE, request(LINE, tail, BODY + hidden(), host))


def bodiless():
    """Methods that seldom have a body, with one that looks like a request."""
    inside = hidden()
    for method in [b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"TRACE", b"PROPFIND"]:
        for path in [b"/v1/models", b"/v1/files"]:
            name = f"{method.decode()} {path.decode()}"
            line = method + b" " + path + b" HTTP/1.1"
            yield Shape(f"{name} with a length", AMBIGUOUS, request(line, b"content-length: %d\r\n" % len(inside), inside), never=True)
            yield Shape(f"{name} with chunks", AMBIGUOUS, request(line, b"transfer-encoding: chunked\r\n", chunks(inside)), never=True)
    yield Shape("CONNECT", SEVERE, b"CONNECT weir:443 HTTP/1.1\r\nhost: weir:443\r\n\r\n" + hidden(), never=True)
    yield Shape("an upgrade to anything", SEVERE, post(b"connection: upgrade\r\nupgrade: foo\r\ncontent-length: %d\r\n" % LENGTH, BODY))
    websocket = b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: eA==\r\n"
    early = request(b"GET /v1/files HTTP/1.1", websocket + b"content-length: %d\r\n" % len(inside), inside)
    yield Shape("an upgrade with a body that looks like a request", SEVERE, early, never=True)


def following():
    """What follows a request on its connection."""
    good = post(b"content-length: %d\r\n" % LENGTH, BODY)
    yield Shape("two requests at once", COMPLIANT, good + good)
    yield Shape("a line end behind a body", ACCEPTABLE, good + b"\r\n" + good)
    yield Shape("a body and then nonsense", AMBIGUOUS, good + b"nonsense\r\n\r\n")
    yield Shape("a request behind a close", COMPLIANT, post(b"connection: close\r\ncontent-length: %d\r\n" % LENGTH, BODY) + hidden(), never=True)
    yield Shape("a request that is in a body", COMPLIANT, post(b"content-length: %d\r\n" % len(hidden()), hidden()), never=True)
    yield Shape("100-continue with the body at once", COMPLIANT, post(b"expect: 100-continue\r\ncontent-length: %d\r\n" % LENGTH, BODY))
    refused = LINE + b"\r\nhost: weir\r\ncontent-length: %d\r\n\r\n" % len(hidden()) + hidden()
    yield Shape("a request without a key whose body looks like a request", AMBIGUOUS, refused, never=True)
    nowhere = request(b"POST /nowhere HTTP/1.1", b"content-length: %d\r\n" % len(hidden()), hidden())
    yield Shape("a request to nowhere whose body looks like a request", AMBIGUOUS, nowhere, never=True)
    cut = post(b"content-length: %d\r\n" % (LENGTH + 5), BODY)
    yield Shape("a body that is cut", ACCEPTABLE, cut)
    yield Shape("chunks that are cut", ACCEPTABLE, post(b"transfer-encoding: chunked\r\n", b"%x\r\n%s" % (LENGTH, BODY)))
    old = request(LINE.replace(b"1.1", b"1.0"), b"", BODY + hidden())
    yield Shape("HTTP/1.0 with a body that has no length", SEVERE, old, never=True)
