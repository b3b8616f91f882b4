#!/usr/bin/python3
"""Reads events from a Redis stream and verifies each of them again.

The bridge did that before it published them. This program need not believe it, nor whoever else can write to the
stream: it computes the provider's signature anew, from the body as it arrived, and compares it with the one beside it.

    consume.py STREAM [--group NAME] [--url redis://HOST:PORT/DB] [--secrets FOLDER] [--json] [--count N]
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
from pathlib import Path

import redis

# Of each provider: the header with its signature, what key a secret stands for, and how the signature is written.
PROVIDERS = {
    "fastpix": ("fastpix-signature", base64.b64decode, base64.b64encode),
    "fastgen": ("x-fastgen-signature", bytes, lambda mac: mac.hex().encode()),
}


def secrets(source, folder):
    """The secrets of a source, one a line: events signed before a rotation still need the old one."""
    text = os.environb.get(source.upper().replace("-", "_").encode() + b"_SECRET")
    file = Path(folder, f"{source}.secret")
    if text is None and file.is_file():
        text = file.read_bytes()
    return [line for line in (text or b"").splitlines() if line]


def is_authentic(headers, body, sources):
    """Whether the provider signed exactly these bytes."""
    provider, known_secrets = sources.get(headers.get("ce_source"), (None, []))
    if provider is None:
        return False
    header, key, written = PROVIDERS[provider]
    claimed = headers.get(header, "").encode()
    macs = [hmac.digest(key(secret), body, hashlib.sha256) for secret in known_secrets]
    # In constant time, so that nobody can guess a signature byte by byte.
    return any([hmac.compare_digest(written(mac), claimed) for mac in macs])


def entries(bus, stream, group, consumer, until_idle):
    """Yields entries: first those we were given in an earlier life and never acknowledged, then new ones."""
    after = "0"
    while True:
        block = None if until_idle else 5000
        answer = bus.xreadgroup(group, consumer, {stream: after}, count=100, block=block)
        batch = answer[0][1] if answer else []
        yield from batch
        if after != ">":
            after = batch[-1][0] if batch else ">"
        elif until_idle and not batch:
            return


def seen_before(seen, event, keep=65_536):
    """Delivery is at least once, so an event may come twice. A consumer with a database keeps this there instead, and
    writes it in the same transaction as what the event led to: then a crash in between does no harm."""
    known = event in seen
    seen[event] = None
    if len(seen) > keep:
        seen.pop(next(iter(seen)))  # a dict keeps its order: this is the oldest
    return known


def main():
    parser = argparse.ArgumentParser(description="Reads events from a Redis stream and verifies each of them again.")
    parser.add_argument("stream")
    parser.add_argument("--url", default=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"), help="or REDIS_URL")
    parser.add_argument("--group", default="consume", help="the consumer group; made where it is missing")
    parser.add_argument("--consumer", default="one", help="the name in the group; one for each process")
    parser.add_argument("--source", action="append", default=["fastpix=fastpix", "fastgen=fastgen"],
                        metavar="NAME=PROVIDER", help="a source of the bridge that is not named after its provider")
    parser.add_argument("--secrets", default=".", help="folder with NAME.secret; the variable NAME_SECRET goes first")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each event")
    parser.add_argument("--count", type=int, help="end after so many events")
    parser.add_argument("--until-idle", action="store_true", help="end when there is nothing more")
    args = parser.parse_args()
    pairs = [pair.split("=") for pair in args.source]
    sources = {f"/hooks/{name}": (provider, secrets(name, args.secrets)) for name, provider in pairs}

    bus = redis.Redis.from_url(args.url)
    try:
        bus.xgroup_create(args.stream, args.group, id="0", mkstream=True)
    except redis.ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):  # it is there already
            raise
    seen, count = {}, 0
    for position, fields in entries(bus, args.stream, args.group, args.consumer, args.until_idle):
        if fields:  # none, where the stream was cut shorter before we got to this entry
            body = fields.pop(b"data", b"")
            headers = {name.decode(): value.decode(errors="backslashreplace") for name, value in fields.items()}
            authentic = is_authentic(headers, body, sources)
            event = headers.get("ce_source"), headers.get("ce_type"), headers.get("ce_id")
            # A forged event must not make us think that we have seen the real one.
            again = authentic and seen_before(seen, event)
            if args.json:
                line = {"position": position.decode(), "headers": list(headers.items()),
                        "body": base64.b64encode(body).decode(), "authentic": authentic, "duplicate": again}
                print(json.dumps(line), flush=True)
            else:
                print(f"{position.decode()}: {'authentic' if authentic else 'NOT AUTHENTIC'}"
                      + (", seen before" if again else ""))
                print("".join(f"    {name:20} {value}\n" for name, value in headers.items()), end="", flush=True)
            # Here an authentic event that was not seen before would be dealt with.
        bus.xack(args.stream, args.group, position)
        count += 1
        if count == args.count:
            return


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
