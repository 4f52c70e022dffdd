"""Plays scenario.json against a kinesis-local by boto3. Fails on the first answer that is not as it
has to be, and if the SDK has an operation that no step calls. Steps that this version of the SDK has no
operation for are left out.

    sdk.py ENDPOINT
"""

import datetime
import json
import pathlib
import re
import sys
import time
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

LOOKS = 600  # at 0.1 s: how long an `until` waits


def main(endpoint):
    client = boto3.client(
        "kinesis", region_name="us-east-1", endpoint_url=endpoint,
        aws_access_key_id="local", aws_secret_access_key="local",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=60),
    )
    operations = set(client.meta.service_model.operation_names)
    names = {api: name for name, api in client.meta.method_to_api_mapping.items()}
    saved, played = {}, set()
    steps = json.loads(pathlib.Path(__file__).with_name("scenario.json").read_text())["steps"]
    for number, step in enumerate(steps):
        wanted = step.get("op") or step.get("needs")
        if wanted and (wanted not in operations or needs_unsaved(step, saved)):
            continue
        try:
            play(client, names, endpoint, step, saved)
            played.add(step.get("op"))
        except (AssertionError, ClientError) as error:
            raise SystemExit(f"step {number}, {step}: {error}")
    missed = operations - played
    if missed:
        raise SystemExit(f"no step calls {sorted(missed)}")
    print(f"boto3 {boto3.__version__}: {len(operations)} operations, {len(steps)} steps")


def needs_unsaved(step, saved):
    """Whether a step is about something that an operation that the SDK lacks would have made."""
    return any(name not in saved for name in re.findall(r'"\$(\w+)"', json.dumps(step.get("in", {}))) if name != "bytes")


def play(client, names, endpoint, step, saved):
    if "pass_ms" in step:
        post(endpoint + "/_local/time", {"advance_ms": step["pass_ms"]})
        return
    if "http" in step:
        for _ in range(LOOKS):
            request = urllib.request.Request(endpoint + step["path"], method=step["http"])
            text = urllib.request.urlopen(request).read().decode()
            if step.get("until", "") in text:
                return
            time.sleep(0.1)
        raise AssertionError(f"never came: {step['until']} in {text}")
    call = getattr(client, names[step["op"]])
    try:
        answer = call(**given(step["in"], saved))
        if "events" in step:
            answer = events(answer, step["events"])
    except ClientError as error:
        if error.response["Error"]["Code"] == step.get("error"):
            return
        raise
    assert "error" not in step, f"was answered: {answer}"
    for path, expected in step.get("is", {}).items():
        found = at(answer, path)
        assert found == given(expected, saved), f"{path} is {found!r}"
    for name, path in step.get("save", {}).items():
        saved[name] = at(answer, path)


def events(answer, most):
    found = []
    for event in answer["EventStream"]:
        found.append(event["SubscribeToShardEvent"])
        if len(found) == most:
            break
    answer["EventStream"].close()
    return {"Events": found}


def given(value, saved):
    if isinstance(value, str) and value.startswith("$"):
        return saved[value[1:]]
    if isinstance(value, list):
        return [given(item, saved) for item in value]
    if isinstance(value, dict):
        if "$bytes" in value:
            return value["$bytes"].encode()
        return {key: given(item, saved) for key, item in value.items()}
    return value


def at(answer, path):
    for part in path.split("."):
        if part == "#":
            answer = len(answer or [])
        elif isinstance(answer, list):
            answer = answer[int(part)]
        else:
            answer = (answer or {}).get(part)
    if isinstance(answer, bytes):
        return answer.decode()
    if isinstance(answer, datetime.datetime):
        return int(answer.timestamp() * 1000)
    return answer


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), method="POST")
    urllib.request.urlopen(request).read()


main(sys.argv[1])
