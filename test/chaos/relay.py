#!/usr/bin/env python3
"""
A TCP relay that misbehaves on command. It stands between the pooler and its servers: an endpoint of the pooler is an
address of the relay, and leads to one server.

The program is asked on its standard input, one request of JSON per line, and answers each with a line on its standard
output; `Relay` is the other side of that. It ends when its input does.

A fault is a property of an endpoint:

    pass        bytes go through
    refuse      nobody listens; what is connected stays connected
    blackhole   packets vanish: a connect hangs, what is connected hears nothing, and its bytes come late, when the fault
                is over
    swallow     connections are taken, and hear nothing: as of a process that is stopped
    reset       what is connected is reset, and so is who comes
    delay       bytes take `seconds` longer, in either direction
    throttle    `rate` bytes per second, per connection and direction
    half_close  the server's side of what is connected now is at its end, while its ears stay open
    corrupt     the next `count` answers of the server begin with a byte that no message begins with

The relay looks at the bytes only as far as it must to tell a login from a cancel request, to see when a login is over,
and where an answer begins: its counts of logins are what the server was burdened with.
"""
import asyncio
import collections
import json
import os
import socket
import struct
import subprocess
import sys
import time

CODE_CANCEL = 80877102
CODE_ENCRYPT = (80877103, 80877104)
READY = (b"Z\0\0\0\5I", b"Z\0\0\0\5T", b"Z\0\0\0\5E")
FAULTS = ("pass", "refuse", "blackhole", "swallow", "reset", "delay", "throttle", "half_close", "corrupt")
DEAF = ("blackhole", "swallow")


def abort(transport):
    """Close with a TCP reset."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Half(asyncio.Protocol):
    """One of the two sockets of a link; what it receives goes to `other`, at once or later."""

    def __init__(self, link, inspect):
        self.link, self.inspect, self.other = link, inspect, None
        self.transport, self.queue, self.timer, self.due, self.ended = None, collections.deque(), None, 0.0, False

    def connection_made(self, transport):
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data):
        data = self.inspect(data)
        endpoint = self.link.endpoint
        if self.ended:
            return
        if not self.queue and endpoint.fault not in ("delay", "throttle") and self.other.transport:
            self.other.transport.write(data)
        else:
            self.put(data)

    def eof_received(self):
        self.put(b"")
        return True

    def put(self, data):
        """Into the queue, empty bytes being the end of the stream."""
        endpoint, now = self.link.endpoint, time.monotonic()
        wait = endpoint.seconds if endpoint.fault == "delay" else 0.0
        wait += len(data) / endpoint.rate if endpoint.fault == "throttle" else 0.0
        self.due = max(self.due, now) + wait if endpoint.fault == "throttle" else max(self.due, now + wait)
        self.queue.append((self.due, data))
        self.flush()

    def flush(self):
        """Hands on what is due."""
        if self.timer:
            self.timer.cancel()
            self.timer = None
        now, target = time.monotonic(), self.other.transport
        while self.queue and target and self.queue[0][0] <= now:
            data = self.queue.popleft()[1]
            if not data:
                self.end()
            elif not self.ended:
                target.write(data)
        if self.queue and target:
            self.timer = asyncio.get_running_loop().call_later(self.queue[0][0] - now, self.flush)

    def end(self):
        """The end of this stream has come to the other side; with both ends the link is over."""
        self.ended = True
        if self.other.ended:
            self.link.close()
        elif self.other.transport.can_write_eof() and not self.other.transport.is_closing():
            self.other.transport.write_eof()

    def connection_lost(self, exc):
        if exc is not None:
            self.link.reset()
        else:
            self.link.close()

    def pause_writing(self):
        if self.other.transport:
            self.other.transport.pause_reading()

    def resume_writing(self):
        if self.other.transport and not self.link.deaf:
            self.other.transport.resume_reading()


class Link:
    """A connection of the pooler and the one that it is continued by."""

    def __init__(self, endpoint):
        self.endpoint, self.deaf, self.over, self.joined = endpoint, False, False, False
        self.kind, self.name = "unknown", ""
        self.head, self.tail, self.frames, self.one_byte, self.ready = b"", b"", b"", False, False
        self.pooler, self.server = Half(self, self.from_pooler), Half(self, self.from_server)
        self.pooler.other, self.server.other = self.server, self.pooler
        endpoint.links.add(self)

    # --- what passes

    def from_pooler(self, data):
        """Reads on until the startup packet has come."""
        if self.kind == "unknown":
            self.head += data
            while len(self.head) >= 8:
                size, code = struct.unpack("!ii", self.head[:8])
                if len(self.head) < size:
                    break
                body, self.head = self.head[8:size], self.head[size:]
                if code in CODE_ENCRYPT:
                    self.one_byte = True
                    continue
                self.begin("cancel" if code == CODE_CANCEL else "login", body)
                break
        return data

    def begin(self, kind, body):
        self.kind = kind
        if kind == "login":
            words = [w.decode(errors="replace") for w in body.split(b"\0")]
            params = dict(zip(words[0::2], words[1::2]))
            self.name = f"{params.get('user', '')}/{params.get('application_name', '')}"
        self.endpoint.note(self, kind)

    def from_server(self, data):
        if not self.ready:
            self.watch_login(data)
        if self.endpoint.corrupt and self.ready and self.tail in READY and data:
            self.endpoint.corrupt -= 1
            data = b"\1" + data[1:]
        self.tail = (self.tail + data)[-6:]
        return data

    def watch_login(self, data):
        if self.one_byte:
            self.one_byte, data = False, data[1:]
        self.frames += data
        while len(self.frames) >= 5:
            size = 1 + struct.unpack("!i", self.frames[1:5])[0]
            if self.frames[:1] == b"Z":
                self.ready, self.frames = True, b""
                self.endpoint.note(self, "ready")
                return
            if len(self.frames) < size:
                return
            self.frames = self.frames[size:]

    # --- faults

    def set_deaf(self, deaf):
        """Nothing is read from either side any more; it comes later."""
        self.deaf = deaf
        for half in (self.pooler, self.server):
            if half.transport and not half.transport.is_closing():
                (half.transport.pause_reading if deaf else half.transport.resume_reading)()

    def half_close(self):
        if self.pooler.transport and not self.server.ended:
            self.server.put(b"")

    def reset(self):
        self.finish(abort)

    def close(self):
        self.finish(lambda transport: transport.close())

    def finish(self, how):
        if self.over:
            return
        self.over = True
        self.endpoint.links.discard(self)
        self.endpoint.note(self, "end")
        for half in (self.pooler, self.server):
            if half.timer:
                half.timer.cancel()
            if half.transport:
                how(half.transport)


class Endpoint:
    """An address that the pooler connects to."""

    def __init__(self, host, port, to):
        self.host, self.port, self.to = host, port, to
        self.fault, self.seconds, self.rate, self.corrupt = "pass", 0.0, 1, 0
        self.links, self.sock, self.fillers = set(), None, []
        self.clear()
        self.listen()

    def clear(self):
        """Forgets what was counted; logins that are under way go on counting."""
        self.events, self.logins = [], sum(1 for k in self.links if k.kind == "login" and not k.ready)
        self.counts = collections.Counter()

    def note(self, link, event):
        """Counts, and keeps with its time whatever a login comes to. Events: accept login cancel ready end."""
        self.counts[event] += 1
        if link.kind == "login" and event in ("login", "ready", "end"):
            self.events.append((time.monotonic(), event if event != "end" or link.ready else "failed", link.name))

    # --- the listening socket

    def listen(self, backlog=1024):
        if self.sock is None:
            self.sock = socket.socket()
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.sock.bind((self.host, self.port))
            self.sock.setblocking(False)
        self.sock.listen(backlog)
        asyncio.get_running_loop().add_reader(self.sock, self.accept)

    def deafen(self):
        """With its queue full the kernel drops whatever asks for a connection, as does a cable that was cut."""
        self.listen(0)
        asyncio.get_running_loop().remove_reader(self.sock)
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex((self.host, self.port))
            self.fillers.append(filler)

    def undeafen(self):
        """What stands in the queue now is ours, or has come through a crack."""
        for filler in self.fillers:
            filler.close()
        while self.fillers and self.sock:
            try:
                self.sock.accept()[0].close()
            except BlockingIOError:
                break
        self.fillers = []

    def shut(self):
        if self.sock:
            asyncio.get_running_loop().remove_reader(self.sock)
            self.sock.close()
            self.sock = None

    def accept(self):
        while self.sock:
            try:
                sock, _ = self.sock.accept()
            except (BlockingIOError, ConnectionError):
                return
            self.counts["accept"] += 1
            asyncio.get_running_loop().create_task(self.serve(sock))

    async def serve(self, sock):
        loop = asyncio.get_running_loop()
        link = Link(self)
        await loop.connect_accepted_socket(lambda: link.pooler, sock)
        if self.fault == "reset":
            link.reset()
            return
        if self.fault in DEAF:
            link.set_deaf(True)
        else:
            await self.join(link)

    async def join(self, link):
        """Continues a link to the server."""
        link.joined = True
        try:
            await asyncio.get_running_loop().create_connection(lambda: link.server, *self.to)
        except OSError:
            link.reset()
            return
        if link.over:
            link.server.transport.abort()
            return
        link.set_deaf(self.fault in DEAF)
        link.pooler.flush()

    # --- faults

    def set_fault(self, fault, seconds=0.0, rate=1, count=1, reset=False):
        """`reset` resets what is connected now, whatever the fault is; so a connection dies whose packets were lost."""
        if fault not in FAULTS:
            raise ValueError(f"no fault {fault!r}; there are {' '.join(FAULTS)}")
        self.undeafen()
        self.fault, self.seconds, self.rate = fault, seconds, rate
        self.corrupt = count if fault == "corrupt" else 0
        if reset or fault == "reset":
            for link in list(self.links):
                link.reset()
        for link in list(self.links):
            if link.deaf != (fault in DEAF):
                link.set_deaf(fault in DEAF)
            if not link.joined and fault not in DEAF:
                asyncio.get_running_loop().create_task(self.join(link))
            if fault == "half_close":
                link.half_close()
        if fault == "refuse":
            self.shut()
        elif fault == "blackhole":
            self.deafen()
        else:
            self.listen()

    def stats(self):
        """Counts since the last clear; `events` are (time, login|ready|failed|end, user/application)."""
        return {"counts": dict(self.counts), "links": len(self.links), "under_way": self.logins, "events": self.events}


class Server:
    """The program's side of the pipe."""

    def __init__(self):
        self.endpoints = {}

    async def run(self):
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while True:
            line = await reader.readline()
            if not line:
                return
            request = json.loads(line)
            try:
                answer = {"ok": self.answer(**request)}
            except Exception as e:
                answer = {"error": repr(e)}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()

    def answer(self, do, name, **args):
        if do == "add":
            self.endpoints[name] = Endpoint(**args)
            return None
        return getattr(self.endpoints[name], do)(**args)


class Relay:
    """The relay as a process of its own, so that it does not share this one's interpreter lock."""

    def __init__(self):
        self.proc = subprocess.Popen(
            [sys.executable, "-B", os.path.abspath(__file__)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, do, name, **args):
        self.proc.stdin.write(json.dumps({"do": do, "name": name, **args}) + "\n")
        self.proc.stdin.flush()
        line = self.proc.stdout.readline()
        if not line:
            raise AssertionError("the relay has ended")
        answer = json.loads(line)
        if "error" in answer:
            raise AssertionError(f"the relay: {answer['error']}")
        return answer["ok"]

    def add(self, name, host, port, to):
        """A new endpoint that leads to the address `to`."""
        self.ask("add", name, host=host, port=port, to=to)

    def fault(self, name, fault, **args):
        self.ask("set_fault", name, fault=fault, **args)

    def clear(self, name):
        self.ask("clear", name)

    def stats(self, name):
        return self.ask("stats", name)

    def stop(self):
        self.proc.stdin.close()
        try:
            self.proc.wait(5)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()


def logins_at_once(events, who=""):
    """The most logins that were under way at once, of those whose user/application begins so."""
    now = most = 0
    for _, event, name in events:
        if name.startswith(who):
            now += {"login": 1, "ready": -1, "failed": -1}.get(event, 0)
            most = max(most, now)
    return most


if __name__ == "__main__":
    asyncio.run(Server().run())
