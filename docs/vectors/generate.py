#!/usr/bin/env python3
"""Writes the test vectors of the natstream protocol.

    python3 docs/vectors/generate.py            writes the files beside this one
    python3 docs/vectors/generate.py --check    verifies that they, and the hex dumps of protocol.md, are up to date

Needs nothing but Python 3.8.
"""

import json
import pathlib
import sys

sys.dont_write_bytecode = True

import exchanges
import messages

HERE = pathlib.Path(__file__).resolve().parent
PAGE = HERE.parent / "protocol.md"
FILES = {
    "classes": messages.classes,
    "exchanges": exchanges.exchanges,
    "frames": messages.frames,
    "headers": messages.headers,
    "items": messages.item_lists,
    "malformed": messages.malformed,
    "positions": messages.position_lists,
    "subjects": messages.subjects,
}


def check_names(name, vectors):
    """Names are unique in a list: tests name what fails."""
    lists = vectors.values() if isinstance(vectors, dict) else [vectors]
    for entries in lists:
        names = [entry["name"] for entry in entries if isinstance(entry, dict) and "name" in entry]
        twice = {entry for entry in names if names.count(entry) > 1}
        if twice:
            sys.exit(f"{name}.json: the same name twice: {sorted(twice)}")


def render(value, indent=""):
    """One vector a line, and one step a line in exchanges."""
    inner = indent + "  "
    if isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
        return "[\n" + ",\n".join(inner + render(entry, inner) for entry in value) + "\n" + indent + "]"
    if isinstance(value, dict) and any(isinstance(entry, (dict, list)) and has_vectors(entry) for entry in value.values()):
        fields = (f"{inner}{json.dumps(key)}: {render(entry, inner)}" for key, entry in value.items())
        return "{\n" + ",\n".join(fields) + "\n" + indent + "}"
    return json.dumps(value)


def has_vectors(value):
    if isinstance(value, list):
        return any(isinstance(entry, dict) for entry in value)
    return any(isinstance(entry, (dict, list)) and has_vectors(entry) for entry in value.values())


def dumps_of_page():
    """The blocks ```hex NAME of protocol.md: lines of bytes, with a comment after `|`."""
    name, content = None, ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("```hex "):
            name, content = line[len("```hex ") :].strip(), ""
        elif line.startswith("```") and name:
            yield name, content
            name = None
        elif name:
            content += "".join(line.split("|")[0].split())


def wrong_dumps():
    frames = {entry["name"]: entry["hex"] for entry in messages.frames()}
    for name, content in dumps_of_page():
        if frames.get(name) != content:
            yield f"{PAGE.name}: the bytes of `{name}` are {frames.get(name)}"


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit(__doc__)
    wrong = []
    for name, build in FILES.items():
        vectors = build()
        check_names(name, vectors)
        content = render(vectors) + "\n"
        path = HERE / f"{name}.json"
        if not check:
            path.write_text(content, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != content:
            wrong.append(f"{path.name}: not up to date; run python3 docs/vectors/generate.py")
    wrong.extend(wrong_dumps())
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
