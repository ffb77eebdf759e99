"""The frame of a Python program for test/drivers: arguments, clients, steps, verdicts.

A program derives its client from Client and calls main(). A client has one method step_NAME() per step, plain or a
coroutine; all clients run a step at the same time, in threads or in tasks of one loop, and the next step begins when
all are done. A method says Skip(reason) for what the driver cannot, and anything else that it raises is its failure in
this step, after which it connects anew.
"""

import argparse
import asyncio
import concurrent.futures
import datetime
import decimal
import inspect
import sys
import traceback
import uuid

STEPS = (
    "types nulls large error error_in_transaction transaction savepoint copy cancel reuse ddl deallocate many "
    "parameters reconnect pipeline tagged"
).split()
ZONES = ("UTC", "Asia/Tokyo", "America/New_York", "Europe/Berlin", "Australia/Adelaide")
NOON = {  # 2024-07-01 12:00 UTC as text in each of the zones
    "UTC": "2024-07-01 12:00:00+00",
    "Asia/Tokyo": "2024-07-01 21:00:00+09",
    "America/New_York": "2024-07-01 08:00:00-04",
    "Europe/Berlin": "2024-07-01 14:00:00+02",
    "Australia/Adelaide": "2024-07-01 21:30:00+09:30",
}
MEGABYTE = 1 << 20


def typed_values(**changed):
    """A value for each type of the step "types", by the name of the type; some drivers want other ones."""
    zone = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
    values = {
        "int": -2147483647,
        "bigint": 9223372036854775807,
        "numeric": decimal.Decimal("-12345678901234567890.123456789"),
        "text": "žluťoučký 馬 🐘 'quoted' \\ \n\t",
        "bytea": bytes(range(256)),
        "bool": True,
        "date": datetime.date(1999, 12, 31),
        "timestamptz": datetime.datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=zone),
        "int[]": [1, -2, 3],
        "text[]": ["a", 'b"c', "", "{,}"],
        "uuid": uuid.UUID("12345678-9abc-def0-1234-56789abcdef0"),
        "json": {"a": [1, None, "ř"]},
    }
    return {**values, **changed}


class Skip(Exception):
    """The driver, or this mode of it, cannot do the step."""


class Wrong(Exception):
    """Something else came than was expected."""


def check(got, expected, what=""):
    if got != expected:
        brief = [repr(v) if len(repr(v)) < 200 else repr(v)[:200] + "…" for v in (expected, got)]
        raise Wrong(f"expected {brief[0]}, got {brief[1]}" + (f" ({what})" if what else ""))


class Client:
    """One of the concurrent clients. connect() and disconnect() are the program's."""

    def __init__(self, options, number):
        self.mode, self.number = options.mode, number
        self.tag = f"{options.id}-{number}"
        self.table_suffix = f"{number}"
        self.id = options.id
        self.zone = ZONES[number % len(ZONES)]
        self.conn = None

    def table(self, name):
        return f"{self.id}_{name}_{self.number}"


def first_line(error):
    text = str(error).strip().splitlines()
    return f"{type(error).__name__ + ': ' if not isinstance(error, Wrong) else ''}{text[0] if text else ''}"


async def recover(client):
    """A connection that saw a failure is given up for a new one."""
    for method in (client.disconnect, client.connect):
        try:
            await maybe(method)
        except Exception:
            traceback.print_exc()


async def maybe(method):
    result = method()
    return await result if inspect.isawaitable(result) else result


async def attempt(client, method):
    """Runs a method of a client; returns what it raised, or None."""
    try:
        await maybe(method)
        return None
    except Skip as e:
        return e
    except Exception as e:
        print(f"-- client {client.number}", file=sys.stderr)
        traceback.print_exc()
        await recover(client)
        return e


class Threads:
    """Each client in a thread."""

    def __init__(self, count):
        self.pool = concurrent.futures.ThreadPoolExecutor(count)

    def all(self, clients, name):
        one = lambda client: asyncio.run(attempt(client, getattr(client, name)))  # noqa: E731
        return list(self.pool.map(one, clients))


class Tasks:
    """Each client in a task of one event loop."""

    def __init__(self, _count):
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)

    def all(self, clients, name):
        async def gather():
            return await asyncio.gather(*(attempt(c, getattr(c, name)) for c in clients))

        return self.loop.run_until_complete(gather())


def verdict(step, outcomes):
    """The line about a step, and whether it is good."""
    skips = [e for e in outcomes if isinstance(e, Skip)]
    failed = [(n, e) for n, e in enumerate(outcomes) if e and not isinstance(e, Skip)]
    if failed:
        number, error = failed[0]
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        return f"FAIL {step}: {first_line(error)} (client {number}{more})", False
    return (f"skip {step}: {skips[0]}" if skips else f"ok {step}"), True


def main(client_class, version, concurrency=Threads):
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", default="default")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--id", default="x")
    parser.add_argument("--step", action="append")
    options = parser.parse_args()
    print(f"version {version}", flush=True)
    clients = [client_class(options, number) for number in range(options.clients)]
    runner = concurrency(options.clients)
    outcomes = runner.all(clients, "connect")
    if any(outcomes):
        print(f"cannot connect: {next(e for e in outcomes if e)}", file=sys.stderr)
        sys.exit(1)
    good = True
    for step in options.step or STEPS:
        line, is_good = verdict(step, runner.all(clients, f"step_{step}"))
        good = good and is_good
        print(line, flush=True)
    runner.all(clients, "disconnect")
    sys.exit(0 if good else 1)
