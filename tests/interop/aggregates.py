"""Holds our aggregate codec against aws-kinesis-agg, an independent implementation.

    python aggregates.py PATH-OF-THE-aggregates-BINARY [SEED]

Both ways: what we write it reads, what it writes we read, and from the same members both write
the same bytes.
"""

import base64
import json
import random
import subprocess
import sys

from aws_kinesis_agg.aggregator import RecordAggregator
from aws_kinesis_agg.deaggregator import deaggregate_records

CASES = 400


def run(binary, verb, lines):
    done = subprocess.run(
        [binary, verb], input="\n".join(lines), capture_output=True, text=True, timeout=60
    )
    if done.returncode != 0:
        sys.exit(f"{verb} failed: {done.stderr}")
    answers = done.stdout.splitlines()
    assert len(answers) == len(lines), (verb, len(answers), len(lines))
    return answers


def case(rng):
    """Members; whether they carry explicit hash keys is one choice per case or per member."""
    style = rng.choice(["none", "all", "some"])
    keys = [rng.choice(["k", "ключ", "x" * 127, "y" * 128]) + str(n) for n in range(rng.randint(1, 200))]
    members = []
    for _ in range(rng.randint(1, 200)):
        explicit = style == "all" or (style == "some" and rng.random() < 0.5)
        data = rng.randbytes(rng.choice([0, 1, 100, 127, 128, 1000]))
        hash_key = str(rng.choice([0, rng.getrandbits(128), 2**128 - 1])) if explicit else None
        members.append((rng.choice(keys), hash_key, data))
    return style, members


def theirs(members):
    aggregator = RecordAggregator()
    for key, hash_key, data in members:
        assert aggregator.add_user_record(key, data, hash_key) is None
    return aggregator.clear_and_get().get_contents()[2]


def read_by_them(aggregate):
    record = {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "sequenceNumber": "1",
            "partitionKey": "a",
            "approximateArrivalTimestamp": 0,
            "data": base64.b64encode(aggregate),
        }
    }
    members = deaggregate_records([record])
    assert [m["kinesis"]["subSequenceNumber"] for m in members] == list(range(len(members)))
    return [
        (m["kinesis"]["partitionKey"], m["kinesis"]["explicitHashKey"], base64.b64decode(m["kinesis"]["data"]))
        for m in members
    ]


def main():
    binary = sys.argv[1]
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**32)
    print(f"aggregates against aws-kinesis-agg: {CASES} cases, seed {seed}")
    rng = random.Random(seed)
    cases = [case(rng) for _ in range(CASES)]

    lines = [json.dumps([(k, h, d.hex()) for k, h, d in members]) for _, members in cases]
    ours = [bytes.fromhex(line) for line in run(binary, "encode", lines)]
    for (style, members), aggregate in zip(cases, ours):
        assert aggregate == theirs(members), "the two write different bytes"
        read = read_by_them(aggregate)
        if style == "some":
            # It gives a member without an explicit hash key the table's first one.
            read = [(k, h if m[1] else None, d) for (k, h, d), m in zip(read, members)]
        assert read == members, "it reads other members than we wrote"

    written = [theirs(members).hex() for _, members in cases]
    for (_, members), line in zip(cases, run(binary, "decode", written)):
        read = [(k, h, bytes.fromhex(d)) for k, h, d in json.loads(line)]
        assert read == members, "we read other members than it wrote"
    print(f"{2 * CASES} passed, 0 failed")


if __name__ == "__main__":
    main()
