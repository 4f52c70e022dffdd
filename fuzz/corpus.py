#!/usr/bin/env python3
"""Writes the inputs that the fuzz targets begin with into `corpus/`: requests of every operation from
the story that the SDKs play, AWS's signed requests, and some frames. Run it where those changed."""

import base64, json, pathlib, re

here = pathlib.Path(__file__).parent
story = json.loads((here / "../tests/interop/sdks/scenario.json").read_text())
signed = json.loads((here / "../kinesis-local/tests/fixtures/sigv4.json").read_text())

# What the story's names stand for in the service of `kinesis-local/src/fuzzing.rs`.
ARN = "arn:aws:kinesis:us-east-1:000000000000"
NAMES = {
    "stream": f"{ARN}:stream/s", "jobs": f"{ARN}:stream/d", "queue": f"{ARN}:queue/q",
    "consumer": f"{ARN}:stream/s/consumer/c:1795399200",
    "low": "shardId-000000000000", "high": "shardId-000000000001",
    "left": "shardId-000000000000", "right": "shardId-000000000001",
}
STREAMS = {"flights": "s", "jobs": "d"}


class Blob(bytes):
    pass


def resolved(value):
    if isinstance(value, dict):
        if set(value) == {"$bytes"}:
            return Blob(value["$bytes"].encode())
        return {name: resolved(member) for name, member in value.items()}
    if isinstance(value, list):
        return [resolved(item) for item in value]
    if isinstance(value, str):
        return NAMES.get(value[1:], "x") if value.startswith("$") else STREAMS.get(value, value)
    return value


def texts(value):
    if isinstance(value, Blob):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: texts(member) for name, member in value.items()}
    return [texts(item) for item in value] if isinstance(value, list) else value


def to_cbor(value):
    def head(kind, length):
        if length < 24:
            return bytes([kind << 5 | length])
        size = 1 if length < 1 << 8 else 2 if length < 1 << 16 else 4 if length < 1 << 32 else 8
        return bytes([kind << 5 | 23 + size.bit_length()]) + length.to_bytes(size, "big")

    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return head(0, value)
    if isinstance(value, Blob):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return b"\x9f" + b"".join(map(to_cbor, value)) + b"\xff"
    return b"\xbf" + b"".join(to_cbor(part) for pair in value.items() for part in pair) + b"\xff"


def keep(target, name, content):
    folder = here / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


seen = {}
for step in story["steps"]:
    if "op" not in step:
        continue
    operation, body = step["op"], resolved(step["in"])
    seen[operation] = seen.get(operation, 0) + 1
    name = f"{operation}-{seen[operation]}"
    keep("json", name, operation.encode() + b"\n" + json.dumps(texts(body)).encode())
    keep("cbor", name, operation.encode() + b"\n" + to_cbor(body))

# Where each frame begins, ends and is damaged.
for which in range(6):
    for name, damage in {"whole": b"\0\0\0", "cut": b"\0\x1e\1", "length": b"\0\3\x80", "crc": b"\0\x08\x40",
                         "header": b"\0\x10\x20"}.items():
        keep("event_stream", f"{which}-{name}", bytes([which]) + damage + b'{"Records":[]}')

for vector in signed:
    head = "".join(f"{name}:{value}\n" for name, value in vector["headers"])
    text = f"{vector['method']} {vector['uri']}\n{head}\n{vector['body']}"
    keep("sigv4", re.sub(r"[^a-z0-9]+", "-", vector["name"].lower()), text.encode())
