#!/usr/bin/python3
"""Reads events from a RabbitMQ queue and verifies each of them again.

The bridge did that before it published them. This program need not believe it, nor whoever else can write to the
queue: it computes the provider's signature anew, from the body as it arrived, and compares it with the one beside it.

    consume.py QUEUE [--bind EXCHANGE/KEY] [--url amqp://HOST:PORT/VHOST] [--secrets FOLDER] [--json] [--count N]
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
from pathlib import Path

import pika

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
    provider, known_secrets = sources.get(headers.get("ce-source"), (None, []))
    if provider is None:
        return False
    header, key, written = PROVIDERS[provider]
    claimed = str(headers.get(header, "")).encode()
    macs = [hmac.digest(key(secret), body, hashlib.sha256) for secret in known_secrets]
    # In constant time, so that nobody can guess a signature byte by byte.
    return any([hmac.compare_digest(written(mac), claimed) for mac in macs])


def messages(channel, queue, until_idle):
    """Yields messages. The broker sends at most a hundred ahead of our acknowledgements."""
    channel.basic_qos(prefetch_count=100)
    for method, properties, body in channel.consume(queue, inactivity_timeout=1):
        if method is not None:
            yield method, properties, body
        elif until_idle:
            left = channel.queue_declare(queue, passive=True).method.message_count
            # What is on its way to us has arrived before that answer.
            if left == 0 and channel.get_waiting_message_count() == 0:
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
    parser = argparse.ArgumentParser(description="Reads events from a RabbitMQ queue and verifies each of them again.")
    parser.add_argument("queue", help="made where it is missing")
    parser.add_argument("--url", default=os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f"),
                        help="or AMQP_URL")
    parser.add_argument("--bind", metavar="EXCHANGE/KEY", help="have the queue get what comes with this key")
    parser.add_argument("--source", action="append", default=["fastpix=fastpix", "fastgen=fastgen"],
                        metavar="NAME=PROVIDER", help="a source of the bridge that is not named after its provider")
    parser.add_argument("--secrets", default=".", help="folder with NAME.secret; the variable NAME_SECRET goes first")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each event")
    parser.add_argument("--count", type=int, help="end after so many events")
    parser.add_argument("--until-idle", action="store_true", help="end when there is nothing more")
    args = parser.parse_args()
    pairs = [pair.split("=") for pair in args.source]
    sources = {f"/hooks/{name}": (provider, secrets(name, args.secrets)) for name, provider in pairs}

    connection = pika.BlockingConnection(pika.URLParameters(args.url))
    channel = connection.channel()
    channel.queue_declare(args.queue, durable=True)  # durable: it outlasts a restart of the broker
    if args.bind:
        exchange, key = args.bind.split("/", 1)
        channel.queue_bind(args.queue, exchange, key)
    seen, count = {}, 0
    for method, properties, body in messages(channel, args.queue, args.until_idle):
        headers = properties.headers or {}
        authentic = is_authentic(headers, body, sources)
        event = headers.get("ce-source"), headers.get("ce-type"), headers.get("ce-id")
        # A forged event must not make us think that we have seen the real one.
        again = authentic and seen_before(seen, event)
        others = {name: value for name, value in vars(properties).items() if name != "headers" and value is not None}
        if args.json:
            line = {"position": str(method.delivery_tag), "properties": others, "headers": list(headers.items()),
                    "body": base64.b64encode(body).decode(), "authentic": authentic, "duplicate": again}
            print(json.dumps(line, default=str), flush=True)
        else:
            print(f"{method.routing_key}: {'authentic' if authentic else 'NOT AUTHENTIC'}"
                  + (", seen before" if again else ""))
            shown = [*others.items(), *headers.items()]
            print("".join(f"    {name:20} {value}\n" for name, value in shown), end="", flush=True)
        # Here an authentic event that was not seen before would be dealt with.
        channel.basic_ack(method.delivery_tag)
        count += 1
        if count == args.count:
            break
    connection.close()  # what was sent to us and not acknowledged goes back to the queue


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
