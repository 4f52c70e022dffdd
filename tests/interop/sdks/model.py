"""Holds kinesis-local's fixtures against the API model that the installed botocore has of Kinesis: each
operation's input and answer with members, required ones, types, sizes, patterns and enums, and the
exceptions it may end with. Documentation is left out. Fails with every place that differs.

    model.py FIXTURES            compares
    model.py FIXTURES --write    makes the fixtures anew
"""

import json
import pathlib
import sys

import botocore
import botocore.loaders

FACTS = ("min", "max", "pattern", "enum")
# Traits of shapes and members that say how an SDK handles them, or how they are documented. A trait that
# is none of these, and none that the fixtures hold, is new, and somebody has to look at it.
SDKS_OWN = {
    "documentation", "box", "sensitive", "deprecated", "deprecatedMessage", "deprecatedSince", "shape",
    "endpointdiscoveryid", "contextParam", "event", "eventstream", "exception", "fault", "error", "synthetic",
}
HELD = {"type", "members", "required", "member", "key", "value", *FACTS}
MOST_TOLD = 40


def main(directory, *options):
    model = botocore.loaders.Loader().load_service_model("kinesis", "service-2")
    made = {
        "kinesis-model.json": {name: of_input(model, it) for name, it in model["operations"].items()},
        "kinesis-answers.json": {name: of_answer(model, it) for name, it in model["operations"].items()},
    }
    told = []
    for file, operations in made.items():
        path = pathlib.Path(directory, file)
        if "--write" in options:
            path.write_text(lines(operations))
        differences(json.loads(path.read_text()), operations, file.removesuffix(".json"), told)
    if told:
        more = [f"... and {len(told) - MOST_TOLD} more"] if len(told) > MOST_TOLD else []
        raise SystemExit("\n".join([
            f"the model of botocore {botocore.__version__} is not the one that {directory} has:",
            *told[:MOST_TOLD], *more,
            "model.py FIXTURES --write makes them anew; then kinesis-local has to follow",
        ]))
    print(f"botocore {botocore.__version__}: its model of {len(model['operations'])} operations is the fixtures'")


def of_input(model, operation):
    return resolved(model, operation["input"]["shape"]) if "input" in operation else None


def of_answer(model, operation):
    answer = resolved(model, operation["output"]["shape"]) if "output" in operation else None
    return {"errors": [error["shape"] for error in operation.get("errors", [])], "answer": answer}


def resolved(model, name, around=()):
    """The shape with those inside it in place of their names."""
    assert name not in around, f"{name} holds itself, which the fixtures cannot tell"
    shape, around = model["shapes"][name], (*around, name)
    unknown = shape.keys() - HELD - SDKS_OWN
    assert not unknown, f"{name} has {sorted(unknown)}, which the fixtures know nothing of"
    inside = lambda member: resolved(model, member["shape"], around)
    facts = {"type": shape["type"]}
    facts |= {fact: shape[fact] for fact in FACTS if fact in shape}
    if shape["type"] == "structure":
        facts["required"] = shape.get("required", [])
        facts["members"] = {name: inside(member) for name, member in shape["members"].items()}
    for part in ("member", "key", "value"):
        if part in shape:
            facts[part] = inside(shape[part])
    return facts


def differences(ours, theirs, path, told):
    """Where the two differ. The order of members and of enums is that of the service's texts, so it counts."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if ours.keys() == theirs.keys() and list(ours) != list(theirs):
            told.append(f"  {path}: in the order {short(list(ours))} in the fixture, {short(list(theirs))} in botocore")
        for name in sorted(ours.keys() | theirs.keys()):
            if name not in theirs:
                told.append(f"  {path}.{name}: only the fixture has it, {short(ours[name])}")
            elif name not in ours:
                told.append(f"  {path}.{name}: only botocore has it, {short(theirs[name])}")
            else:
                differences(ours[name], theirs[name], f"{path}.{name}", told)
    elif ours != theirs:
        told.append(f"  {path}: {short(ours)} in the fixture, {short(theirs)} in botocore")


def short(value):
    text = json.dumps(value)
    return text if len(text) <= 400 else text[:400] + "..."


def lines(operations):
    """One operation a line, sorted."""
    compact = lambda facts: json.dumps(facts, separators=(",", ":"), ensure_ascii=False)
    return "{\n" + ",\n".join(f" {json.dumps(name)}: {compact(operations[name])}" for name in sorted(operations)) + "\n}\n"


main(*sys.argv[1:])
