"""
Clients that write rows, remember what they were told about each, and look whether the tables agree.

A row is (client, seq), seq counting up per client. For each the client keeps what it knows: "committed", "failed", or
"unknown" when the answer to what may have committed it left that open. Rows are written outside of transactions and in
them, by all ways that the protocol has, and now and then the client reads its latest back. In the end `compare` holds the
table against all of it:

    lost        told committed, and not there
    doubled     there more than once
    revived     told failed, and there all the same
    unknown     told neither; of these, how many are there
    wrong       an answer that PostgreSQL would not have given: another's row, a missing one, a wrong state of the
                transaction, a ReadyForQuery too many
"""
import asyncio
import bisect
import collections
import random
import threading
import time

from session import Session

TABLE = "create table ledger (client int, seq int); create index on ledger (client, seq)"
INSERT = "insert into ledger values (%s, %s)"
WINDOW = 20  # rows that are read back
LOGIN_PAUSE = 0.1  # seconds between attempts to connect
SETTLE = 60.0  # seconds that a client may take for its last answer


class Client:
    """One of them, with one connection at a time."""

    def __init__(self, load, number):
        self.load, self.number, self.rng = load, number, random.Random(load.seed * 100003 + number)
        self.session, self.seq, self.rows = None, 0, {}
        self.stall, self.busy_since = 0.0, None
        self.unknown_codes = {}

    async def run(self):
        load = self.load
        await asyncio.sleep(self.rng.random() * min(1.0, load.think * 2))
        while not load.stopping:
            if self.session is None or self.session.closed:
                await self.connect()
                continue
            pick = self.rng.random()
            if pick < 0.35:
                await self.single()
            elif pick < 0.45:
                await self.batch()
            elif pick < 0.75:
                await self.transaction()
            else:
                await self.read_back()
            await load.pause(self.rng.random() * load.think * 2)
        if self.session:
            self.session.close()

    async def connect(self):
        load = self.load
        if self.session is not None:
            load.disconnects += 1
            load.count_errors(self.session.answer)
            self.session = None
        try:
            self.session, answer = await Session.login(load.port, load.user, load.database)
            load.count_errors(answer)
        except OSError as e:
            load.errors[type(e).__name__] += 1
        if self.session is None:
            await load.pause(LOGIN_PAUSE * (0.5 + self.rng.random()))

    async def ask(self, sql, values=None):
        """A statement, by one of the ways in which it can be sent; %s stands for a parameter."""
        pick = self.rng.random()
        if pick < 0.5 or (values is None and pick < 0.8):
            return await self.timed(self.session.ask(sql % values if values else sql))
        if values is None:
            return await self.timed(self.session.execute(sql))
        numbered = sql % tuple(f"${i + 1}::int" for i in range(len(values)))
        return await self.timed(self.session.execute(numbered, values, named=pick < 0.8))

    async def timed(self, exchange):
        """An answer; how long it took counts as a stall, whatever it is."""
        self.busy_since = time.monotonic()
        answer = await exchange
        self.stall = max(self.stall, time.monotonic() - self.busy_since)
        self.busy_since = None
        self.load.count_errors(answer)
        if self.session.unasked:
            self.wrong(f"{self.session.unasked} ReadyForQuery that nothing was sent for")
            self.session.unasked = 0
        return answer

    def wrong(self, what):
        self.load.wrong.append(f"client {self.number}: {what}")

    def next_rows(self, count):
        rows = list(range(self.seq + 1, self.seq + count + 1))
        self.seq += count
        return rows

    def settle(self, rows, state):
        for seq in rows:
            self.rows[seq] = state
        if state == "committed":
            self.load.writes.append(time.monotonic())

    def settle_end(self, rows, answer, what):
        """After an error to what may have committed."""
        self.settle(rows, "unknown" if answer.leaves_open() else "failed")
        for seq in rows:
            self.unknown_codes[seq] = f"{what} {answer.error.code if answer.error else 'closed'}"

    # --- what it does

    async def single(self):
        rows = self.next_rows(1)
        self.settle(rows, "unknown")
        answer = await self.ask(self.load.insert, (self.number, rows[0]))
        if answer.errors or answer.status is None:
            self.settle_end(rows, answer, "statement")
            if answer.status not in ("I", None):
                self.wrong(f"state {answer.status} outside a transaction: {answer}")
                self.session.close()
            return
        self.settle(rows, "committed")
        self.expect(answer, ["INSERT 0 1"], "I")

    async def batch(self):
        """A transaction in one message."""
        rows = self.next_rows(2)
        self.settle(rows, "unknown")
        inserts = "; ".join(self.load.insert % (self.number, seq) for seq in rows)
        answer = await self.timed(self.session.ask(f"begin; {inserts}; commit"))
        if answer.errors or answer.status is None:
            self.settle_end(rows, answer, "batch")
            if answer.status == "E":
                await self.end_failed()
            elif answer.status == "T":
                self.wrong(f"an error in a transaction left it open: {answer}")
                self.session.close()
            return
        self.settle(rows, "committed")
        self.expect(answer, ["BEGIN", "INSERT 0 1", "INSERT 0 1", "COMMIT"], "I")

    async def transaction(self):
        answer = await self.ask("begin")
        if answer.errors or answer.status is None:
            if answer.status == "E":
                await self.end_failed()
            return
        self.expect(answer, ["BEGIN"], "T")
        rows = self.next_rows(2)
        self.settle(rows, "failed")
        for seq in rows:
            if self.load.transaction_think:
                await asyncio.sleep(self.rng.random() * self.load.transaction_think * 2)
            answer = await self.ask(self.load.insert, (self.number, seq))
            if answer.errors or answer.status is None:
                await self.lost_transaction(answer)
                return
            self.expect(answer, ["INSERT 0 1"], "T")
        await self.commit(rows)

    async def commit(self, rows):
        if self.rng.random() < 0.05:
            answer = await self.ask("rollback")
            if not answer.errors and answer.status is not None:
                self.expect(answer, ["ROLLBACK"], "I")
            return
        self.settle(rows, "unknown")
        answer = await self.ask("commit")
        if answer.errors or answer.status is None:
            self.settle_end(rows, answer, "COMMIT")
            if answer.status == "E":
                await self.end_failed()
        elif answer.tags == ["COMMIT"] and answer.status == "I":
            self.settle(rows, "committed")
        else:
            self.settle(rows, "failed")
            self.wrong(f"COMMIT was answered by {answer}")

    async def lost_transaction(self, answer):
        """An error inside a transaction: it must stay failed until its end."""
        if answer.status is None:
            return
        if answer.status != "E":
            self.wrong(f"an error in a transaction left the state {answer.status}: {answer}")
            self.session.close()
            return
        if self.rng.random() < 0.5:
            answer = await self.ask("select 'a statement in a failed transaction'")
            if answer.status is not None and (answer.status != "E" or answer.rows or not answer.errors):
                self.wrong(f"a failed transaction went on: {answer}")
        await self.end_failed()

    async def end_failed(self):
        answer = await self.ask(self.rng.choice(("rollback", "commit")))
        if answer.status is not None:
            self.expect(answer, ["ROLLBACK"], "I")

    async def read_back(self):
        since = self.seq - WINDOW
        answer = await self.ask(
            f"select '{self.number}/{self.seq}', array_to_string(array_agg(seq), ' ') from ledger"
            " where client = %s and seq > %s",
            (self.number, since),
        )
        if answer.errors or answer.status is None:
            return
        self.expect(answer, ["SELECT 1"], "I")
        if len(answer.rows) != 1 or answer.rows[0][0] != f"{self.number}/{self.seq}":
            self.wrong(f"asked for {self.number}/{self.seq}, got {answer}")
            return
        seen = collections.Counter(int(word) for word in (answer.rows[0][1] or "").split())
        for seq in range(max(1, since + 1), self.seq + 1):
            state = self.rows.get(seq, "failed")
            if seen[seq] > 1 or (state == "committed" and not seen[seq]) or (state == "failed" and seen[seq]):
                self.wrong(f"row {seq}, {state}, was read {seen[seq]} times")

    def expect(self, answer, tags, status):
        if answer.tags != tags or answer.status != status or answer.errors:
            self.wrong(f"expected {tags} {status}, got {answer}")


class Workload:
    """
    `clients` of them, in a thread with a loop of its own; each pauses for `think` seconds on the average, and for
    `transaction_think` inside a transaction. `insert` is what writes a row (client, seq).
    """

    def __init__(self, port, clients=20, think=0.02, transaction_think=0.005, insert=INSERT, seed=1):
        self.port, self.user, self.database, self.insert, self.seed = port, "app", "app", insert, seed
        self.think, self.transaction_think = think, transaction_think
        self.errors, self.wrong, self.writes, self.disconnects = collections.Counter(), [], [], 0
        self.texts = {}
        self.clients = [Client(self, number) for number in range(1, clients + 1)]
        self.stopping, self.hung, self.loop, self.failure = False, 0, None, None
        self.stop_event = None
        self.thread = threading.Thread(target=self._thread, daemon=True)

    def start(self):
        self.thread.start()
        return self

    def _thread(self):
        try:
            asyncio.run(self._run())
        except BaseException as e:
            self.failure = e

    async def _run(self):
        self.loop, self.stop_event = asyncio.get_running_loop(), asyncio.Event()
        tasks = [self.loop.create_task(c.run()) for c in self.clients]
        await self.stop_event.wait()
        done, late = await asyncio.wait(tasks, timeout=SETTLE)
        self.hung = len(late)
        for task in late:
            task.cancel()
        for task in done:
            task.result()

    async def pause(self, seconds):
        """Sleeps, unless it is time to stop."""
        if seconds > 0.5:
            try:
                await asyncio.wait_for(self.stop_event.wait(), seconds)
            except asyncio.TimeoutError:
                pass
        else:
            await asyncio.sleep(seconds)

    def stop(self):
        """Ends when all have got their last answer; who has not within a minute counts as hung."""
        self.stopping = True
        self.loop.call_soon_threadsafe(self.stop_event.set)
        self.thread.join()
        if self.failure:
            raise self.failure
        return self

    def abandon(self):
        """Ends at once, whatever the clients wait for."""
        if self.thread.is_alive():
            self.stopping = True
            for client in self.clients:
                if client.session:
                    self.loop.call_soon_threadsafe(client.session.close)
            self.loop.call_soon_threadsafe(self.stop_event.set)
            self.thread.join()

    def count_errors(self, answer):
        for told in answer.errors:
            self.errors[told.code] += 1
            self.texts.setdefault(told.code, collections.Counter())[told.text] += 1

    # --- figures

    def longest_stall(self, now=None):
        """The longest time that any client waited for an answer, those included that still do."""
        now = now or time.monotonic()
        return max(max(c.stall, now - c.busy_since if c.busy_since else 0.0) for c in self.clients)

    def first_write_after(self, when):
        """Seconds from then until a client was told of a commit; None without one."""
        at = bisect.bisect(self.writes, when)
        return self.writes[at] - when if at < len(self.writes) else None

    def gap_after(self, when):
        """The longest time, from then on, in which no commit was told to anybody."""
        times = [when, *self.writes[bisect.bisect(self.writes, when) :]]
        return max((b - a for a, b in zip(times, times[1:])), default=None)

    def rate(self, begin, end):
        """Commits per second."""
        return (bisect.bisect(self.writes, end) - bisect.bisect(self.writes, begin)) / (end - begin)

    def full_rate_after(self, when, before, share=0.8, window=0.5, step=0.05):
        """Seconds from then until, for `window`, commits came at `share` of the rate `before`; None if never."""
        last = self.writes[-1] if self.writes else when
        first = self.first_write_after(when)
        at = when
        while at + window <= last:
            if self.rate(at, at + window) >= before * share:
                return max(at - when, first)
            at += step
        return None

    def compare(self, query):
        """Holds the ledger, asked by query(sql), against what the clients know; counts of what differs."""
        there = {(c, s): n for c, s, n in query("select client, seq, count(*) from ledger group by 1, 2")}
        out = collections.Counter(committed=0, lost=0, doubled=0, revived=0, unknown=0, unknown_there=0)
        codes = {}
        for client in self.clients:
            for seq, state in client.rows.items():
                count = there.pop((client.number, seq), 0)
                out["doubled"] += count > 1
                if state == "committed":
                    out["committed"] += 1
                    out["lost"] += count == 0
                elif state == "failed":
                    out["failed"] += 1
                    out["revived"] += count > 0
                else:
                    out["unknown"] += 1
                    out["unknown_there"] += count > 0
                    code = client.unknown_codes.get(seq, "hung")
                    codes.setdefault(code, [0, 0])
                    codes[code][0] += 1
                    codes[code][1] += count > 0
        out["strange"] = len(there)
        return out, codes
