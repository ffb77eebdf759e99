"""
Random scripts of client messages: valid and failing ones, of every kind that a client may send after its login.

A script has the tag of its client in every row, and a table of its own, so that any number of them may run at once
and each knows what it must see. The same seed makes the same script.
"""
import struct

from . import wire

INT4PL, INT4DIV, TEXT_LEN = 177, 154, 1257

# What every database of these tests has, one table of each kind per client.
SCHEMA = """
create or replace function raise_notice(text) returns text language plpgsql as
  $$ begin raise notice 'notice %', $1; return $1; end $$;
create or replace function raise_error(text) returns text language plpgsql as
  $$ begin raise notice 'before %', $1; raise exception 'error %', $1 using errcode = 'P0042', detail = 'of a test'; end $$;
grant execute on all functions in schema public to public;
"""
TABLES = """
create table t{k}(i int, s text); alter table t{k} owner to app;
create table late{k}(i int unique deferrable initially deferred); alter table late{k} owner to app;
"""


def schema(clients):
    return SCHEMA + "".join(TABLES.format(k=k) for k in range(clients))


def function_call(oid, *values):
    """A FunctionCall with all values and the result as text."""
    body = struct.pack("!ihhh", oid, 1, 0, len(values))
    for v in values:
        body += struct.pack("!i", len(str(v))) + str(v).encode()
    return wire.pack("F", body + struct.pack("!h", 0))


class Maker:
    """
    Makes scripts. `named` allows named statements, `transactions` what leaves a transaction open, `session` what only
    a session of one's own can hold: LISTEN, cursors WITH HOLD, SQL-level PREPARE. `carried` allows to use in a batch
    the unnamed statement that an earlier one has left. `doubt` allows Syncs within COPY data that
    fail: whether PostgreSQL has read them as data or answers them is known to nobody before it has.
    """

    def __init__(self, rng, client=0, named=True, transactions=True, session=False, carried=True, doubt=True):
        self.rng, self.client, self.tag = rng, client, f"c{client}-{rng.randrange(10**6)}"
        self.named, self.transactions, self.session, self.carried = named, transactions, session, carried
        self.doubt = doubt
        self.table, self.late = f"t{client}", f"late{client}"
        self.count = 0

    # --- SQL

    def sql(self):
        """(text, number of parameters) of one statement."""
        self.count += 1
        tag, t = f"{self.tag}-{self.count}", self.table
        plain = [
            (f"select '{tag}'", 0),
            (f"select '{tag}', $1::int", 1),
            (f"select '{tag}' || $1::text, $2::int + 1", 2),
            (f"select '{tag}', generate_series(1, 5)", 0),
            (f"select '{tag}', i from generate_series(1, $1::int) i", 1),
            (f"select '{tag}', repeat('long', 3000)", 0),
            (f"select '{tag}' from generate_series(1, 300)", 0),
            (f"select * from {t} order by 1, 2 limit 3", 0),
            (f"insert into {t} values (1, '{tag}')", 0),
            (f"insert into {t} values ($1::int, '{tag}') returning *", 1),
            (f"update {t} set s = '{tag}' where i = 1", 0),
            (f"select raise_notice('{tag}')", 0),
            (f"insert into {self.late} values ({self.rng.randrange(3)})", 0),
            ("show timezone", 0),
            (f"set timezone to '{self.rng.choice(['UTC', 'Asia/Tokyo', 'Europe/Berlin', 'nowhere'])}'", 0),
            (f"set application_name to '{tag}'", 0),
            ("set local datestyle to 'SQL, DMY'", 0),
            (f"copy {t} to stdout", 0),
            ("copy (select generate_series(1, 4000)) to stdout", 0),
            ("", 0),
            ("-- nothing", 0),
        ]
        failing = [
            (f"select '{tag}', 1/0", 0),
            (f"select '{tag}', 1/$1::int", 1),
            (f"select '{tag}', 1/(3 - i) from generate_series(1, 5) i", 0),
            (f"select raise_error('{tag}')", 0),
            (f"selec '{tag}'", 0),
            (f"select no_such_column_{self.count}", 0),
            (f"insert into {t} values ('{tag}')", 0),
            (f"insert into {self.late} values (0), (0)", 0),
            (f"select '{tag}'; select 2", 0),
            ("set timezone to 'nowhere'", 0),
            ("savepoint never", 0),
        ]
        blocks = [
            ("begin", 0),
            ("begin", 0),
            ("commit", 0),
            ("commit", 0),
            ("rollback", 0),
            ("savepoint a", 0),
            ("rollback to a", 0),
            ("release a", 0),
            ("set constraints all immediate", 0),
            ("declare c cursor for select generate_series(1, 9)", 0),
            ("fetch 2 from c", 0),
            ("close c", 0),
            ("commit and chain", 0),
            ("prepare transaction 'p'", 0),
        ]
        alone = [
            ("listen news", 0),
            (f"notify news, '{tag}'", 0),
            ("unlisten *", 0),
            ("prepare byhand as select 'by hand'", 0),
            ("execute byhand", 0),
            ("deallocate byhand", 0),
            ("deallocate all", 0),
            ("declare held cursor with hold for select generate_series(1, 9)", 0),
            ("fetch 2 from held", 0),
        ]
        kinds = [(plain, 10), (failing, 3)]
        if self.transactions:
            kinds.append((blocks, 4))
        if self.session:
            kinds.append((alone, 2))
        group = self.rng.choices([k for k, _ in kinds], [w for _, w in kinds])[0]
        return self.rng.choice(group)

    def harmless(self):
        """
        A statement, of one parameter, for a name that may exist already: which of two errors in one Parse is told is
        nobody's concern.
        """
        return f"select '{self.tag}', $1::text"

    def plain_sql(self):
        """A statement without parameters."""
        while True:
            text, params = self.sql()
            if params == 0:
                return text

    def statement(self):
        return self.rng.choice(["", "s1", "s2"]) if self.named else ""

    def portal(self):
        return self.rng.choice(["", "", "p1", "p2"])

    def values(self, count):
        return [self.rng.choice([0, 1, 2, 3, 3, "x"]) for _ in range(count)]

    # --- fragments: lists of messages

    def f_query(self):
        text = self.plain_sql()
        while self.rng.random() < 0.25:
            text += "; " + self.plain_sql()
        return [wire.query(text)]

    def end_of_batch(self):
        r = self.rng.random()
        if r < 0.75:
            return [wire.SYNC]
        if r < 0.85:
            return [wire.FLUSH]
        if r < 0.9:
            return [wire.SYNC, wire.SYNC]
        return self.f_query() if r < 0.95 else []

    def unlike_others(self, text):
        """
        The text of a named statement. Where a transaction may be aborted, it is one that no server has had: PostgreSQL
        refuses to parse there, whereas a pooler may say that it knows the text already.
        """
        self.count += 1
        return f"{text} -- {self.tag}-{self.count}" if self.transactions else text

    def sound(self):
        """One statement in the extended protocol, as a driver sends it."""
        rng = self.rng
        text, params = self.sql()
        st, portal, out = self.statement(), self.portal(), []
        if st and rng.random() < 0.8:
            out.append(wire.close("S", st))
        elif st:
            text, params = self.harmless(), 1
        out.append(wire.parse(st, self.unlike_others(text) if st else text))
        if rng.random() < 0.3:
            out.append(wire.describe("S", st))
        if rng.random() < 0.1:
            out.append(wire.FLUSH)
        if portal and rng.random() < 0.7:
            out.append(wire.close("P", portal))
        out.append(wire.bind(portal, st, self.values(params)))
        if rng.random() < 0.5:
            out.append(wire.describe("P", portal))
        limit = rng.choice([0, 0, 0, 1, 2, 5])
        out.append(wire.execute(portal, limit))
        while limit and rng.random() < 0.6:
            out += [wire.execute(portal, limit)]
        if rng.random() < 0.2:
            out.append(wire.close(rng.choice("SP"), rng.choice([st, portal])))
        return out

    def f_batch(self):
        out = []
        for _ in range(self.rng.choice([1, 1, 2, 3, 6])):
            out += self.sound()
        return out + self.end_of_batch()

    def f_transaction(self):
        """BEGIN and COMMIT within one pipeline, with or without Syncs between."""
        out = wire_extended("begin")
        for _ in range(self.rng.randrange(4)):
            out += self.sound() + ([wire.SYNC] if self.rng.random() < 0.4 else [])
        return out + wire_extended(self.rng.choice(["commit", "commit", "rollback"])) + self.end_of_batch()

    def f_portal(self):
        """A portal that is fetched from over several Syncs, within a transaction and (in vain) without."""
        rng, st = self.rng, self.statement()
        out = [wire.query("begin")] if self.transactions and rng.random() < 0.8 else []
        out += [wire.close("S", st), wire.parse(st, self.unlike_others(f"select '{self.tag}', generate_series(1, 7)"))]
        out += [wire.bind("pw", st), wire.execute("pw", 2), wire.SYNC]
        for _ in range(rng.randrange(4)):
            out += [wire.execute("pw", rng.choice([1, 2, 3, 0])), rng.choice([wire.SYNC, wire.SYNC, wire.FLUSH])]
            if rng.random() < 0.2:
                out += self.f_query()
        return out + [wire.close("P", "pw"), wire.SYNC] + ([wire.query("commit")] if self.transactions else [])

    def f_chaos(self):
        """Messages in any order, of any names, existing or not."""
        rng, out, is_parsed = self.rng, [], False
        for _ in range(rng.randrange(1, 10)):
            text, params = self.sql()
            st = self.statement()
            kind = rng.choice("PPBBDDEEECCHSQF")
            if kind in "BD" and not (st or is_parsed or self.carried):
                kind = "P"
            if kind == "P":
                is_parsed |= not st
                text = self.unlike_others(self.harmless()) if st else text
                out.append(wire.parse(st, text))
            elif kind == "B":
                out.append(wire.bind(self.portal(), st, self.values(rng.choice([0, 0, 1, params]))))
            elif kind == "D":
                out.append(wire.describe("S", st) if rng.random() < 0.5 else wire.describe("P", self.portal()))
            elif kind == "E":
                out.append(wire.execute(self.portal(), rng.choice([0, 0, 1, 3])))
            elif kind == "C":
                is_parsed &= bool(st)
                out.append(wire.close("S", st) if rng.random() < 0.5 else wire.close("P", self.portal()))
            elif kind == "H":
                out.append(wire.FLUSH)
            else:
                is_parsed = False
                out += {"F": self.f_function(), "S": [wire.SYNC], "Q": [wire.query("" if params else text)]}[kind]
        return out + self.end_of_batch()

    def f_function(self):
        rng = self.rng
        return [
            rng.choice(
                [
                    function_call(INT4PL, 20, rng.randrange(100)),
                    function_call(INT4PL, 20, rng.randrange(100)),
                    function_call(TEXT_LEN, self.tag),
                    function_call(INT4DIV, 1, 0),
                    function_call(INT4PL, "x", 1),
                    function_call(0),
                ]
            )
        ]

    def copy_body(self, is_sound):
        """CopyData and its end, with what may stand between."""
        rng, out, lines = self.rng, [], []
        for i in range(rng.choice([0, 1, 3, 20])):
            lines.append(f"{i}\t{self.tag}\n")
        if not is_sound and rng.random() < 0.5:
            lines.insert(rng.randrange(len(lines) + 1), "not a number\tx\n")
        data = "".join(lines).encode()
        while data:
            n = rng.choice([len(data), 5, 100, 1000])
            out.append(wire.pack("d", data[:n]))
            data = data[n:]
            if rng.random() < 0.1:
                out.append(wire.FLUSH)
            if (is_sound or self.doubt) and rng.random() < 0.05:
                out.append(wire.SYNC)
        out.append(wire.pack("f", b"given up\0") if not is_sound and rng.random() < 0.4 else wire.pack("c"))
        return out

    def f_copy_query(self):
        text = f"copy {self.table} from stdin"
        before = self.plain_sql() + "; " if self.rng.random() < 0.2 else ""
        behind = "; " + self.plain_sql() if self.rng.random() < 0.3 else ""
        is_sound = self.rng.random() < 0.6
        out = [wire.query(before + text + behind)]
        return out + self.copy_body(is_sound) + ([wire.SYNC] if self.rng.random() < 0.1 else [])

    def f_copy_execute(self):
        """COPY in the extended protocol; a client that does not know it for one sends the Sync before the data."""
        rng, out = self.rng, []
        if rng.random() < 0.3:
            out += self.sound()
        out += [wire.parse("", f"copy {self.table} from stdin"), wire.bind(), wire.describe("P"), wire.execute()]
        is_sound = rng.random() < 0.6
        if is_sound or self.doubt:
            out += rng.choice([[], [], [wire.FLUSH], [wire.SYNC]])
        out += self.copy_body(is_sound) + [wire.SYNC]
        # Nothing may be left that a later Bind would take for a statement of its own.
        return out + [wire.close("S", ""), wire.SYNC]

    def f_stray(self):
        """Ends of a COPY that never began."""
        return [self.rng.choice([wire.pack("d", b"stray"), wire.pack("c"), wire.pack("f", b"stray\0")])]

    def f_sync(self):
        return self.rng.choice([[wire.SYNC], [wire.FLUSH], [wire.SYNC] * 3, [wire.FLUSH, wire.SYNC]])

    def script(self):
        kinds = [
            (self.f_query, 8),
            (self.f_batch, 14),
            (self.f_chaos, 8),
            (self.f_function, 3),
            (self.f_copy_query, 4),
            (self.f_copy_execute, 4),
            (self.f_portal, 3),
            (self.f_stray, 1),
            (self.f_sync, 1),
        ]
        if self.transactions:
            kinds.append((self.f_transaction, 4))
        names, weights = zip(*kinds)
        out = [wire.query(f"delete from {self.table}; delete from {self.late}")]
        for make in self.rng.choices(names, weights, k=self.rng.choice([1, 2, 3, 5, 8])):
            out += make()
        return out


def wire_extended(sql, values=()):
    """Parse, Bind and Execute as three messages."""
    return [wire.parse("", sql), wire.bind("", "", values), wire.execute()]
