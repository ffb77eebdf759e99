"""The scenario for drivers with the interface of Python's DB-API and psycopg's extensions to it.

Even clients let the driver begin transactions by itself, as it does by default, and commit after each statement; odd
ones are in autocommit.
"""

import itertools
import threading

from scenario import MEGABYTE, NOON, Client, Skip, Wrong, check, typed_values

CANCEL_INTERVAL_S = 0.2


class DbapiClient(Client):
    """A driver's class gives connect(), sqlstate(), copy_in(), copy_out() and what it has of its own."""

    def is_autocommit(self):
        return self.number % 2 == 1

    def disconnect(self):
        if self.conn:
            self.conn.close()
            self.conn = None

    def run(self, text, params=None):
        """One statement, inside whatever transaction there is; its rows."""
        with self.conn.cursor() as cursor:
            cursor.execute(text, params)
            return cursor.fetchall() if cursor.description else []

    def query(self, text, params=None):
        """One statement in a transaction of its own; its rows."""
        rows = self.run(text, params)
        self.conn.commit()
        return rows

    def fails(self, sqlstate, text, params=None):
        """A statement that must fail like this; the transaction stays as it is then."""
        try:
            rows = self.run(text, params)
        except Exception as e:
            check(self.sqlstate(e), sqlstate, text)
            return
        raise Wrong(f"expected {sqlstate}, got {len(rows)} rows ({text})")

    def works(self):
        """The connection is fit for use, and our own."""
        check(self.query("select %s::text", (self.tag,)), [(self.tag,)], "a good statement")

    def begin(self):
        """Opens a transaction where the driver does not do it by itself."""
        if self.is_autocommit():
            self.run("begin")

    def commit(self):
        self.run("commit") if self.is_autocommit() else self.conn.commit()

    def rollback(self):
        self.run("rollback") if self.is_autocommit() else self.conn.rollback()

    def other(self):
        """A second connection, for use as a context."""
        second = type(self).__new__(type(self))
        second.__dict__.update(self.__dict__, conn=None)
        second.connect()
        return Closing(second)

    # --- steps

    def step_types(self):
        values = typed_values()
        columns = ", ".join(f"%s::{name}" for name in values)
        for _ in range(7):
            row = self.query(f"select {columns}", [self.adapt(v) for v in values.values()])[0]
            got = [bytes(v) if isinstance(v, memoryview) else v for v in row]
            check(got, list(values.values()))

    def adapt(self, value):
        return value

    def step_nulls(self):
        columns = "%s::int, %s::text, %s::bytea, %s::timestamptz, %s::int[], %s::numeric"
        for _ in range(7):
            check(self.query(f"select {columns}", [None] * 6), [(None,) * 6])
            check(self.query("select %s::text, %s::text[], null, %s::text is null", ("", [], "")), [("", [], None, False)])

    def step_large(self):
        text, data = self.tag + "ř" * (MEGABYTE // 2), bytes(range(256)) * (MEGABYTE // 256)
        row = self.query("select %s::text, %s::bytea, length(%s::text)", (text, data, text))[0]
        check((row[0] == text, bytes(row[1]) == data, row[2]), (True, True, len(text)))
        check(self.query("select repeat(%s, %s)", (self.tag[0], MEGABYTE))[0][0] == self.tag[0] * MEGABYTE, True)

    def step_error(self):
        for _ in range(7):
            for sqlstate, text, params in (
                ("22012", "select 1 / %s::int", (0,)),
                ("42P01", "select * from no_such_table where x = %s", (1,)),
                ("42601", "selec %s::int", (1,)),
            ):
                self.fails(sqlstate, text, params)
                self.conn.rollback()
                self.works()

    def step_error_in_transaction(self):
        table = self.table("eit")
        self.query(f"create table {table} (a int)")
        for _ in range(3):
            self.begin()
            self.run(f"insert into {table} values (%s)", (1,))
            self.fails("22012", "select 1 / %s::int", (0,))
            self.fails("25P02", "select %s::text", ("x",))
            self.rollback()
            self.works()
        check(self.query(f"select count(*) from {table}"), [(0,)])
        self.query(f"drop table {table}")

    def step_transaction(self):
        table = self.table("tx")
        self.query(f"create table {table} (a int)")
        with self.other() as other:
            for number in range(5):
                self.begin()
                self.run(f"insert into {table} values (%s)", (number,))
                self.commit()
                check(other.query(f"select count(*) from {table}"), [(number + 1,)], "after commit")
                self.begin()
                self.run(f"insert into {table} values (%s)", (number,))
                self.rollback()
                check(other.query(f"select count(*) from {table}"), [(number + 1,)], "after rollback")
        self.query(f"drop table {table}")

    def step_savepoint(self):
        table = self.table("sp")
        self.query(f"create table {table} (a int primary key)")
        for number in (10, 20, 30):
            self.begin()
            self.run(f"insert into {table} values (%s)", (number,))
            self.run("savepoint one")
            self.fails("23505", f"insert into {table} values (%s)", (number,))
            self.run("rollback to savepoint one")
            self.run(f"insert into {table} values (%s)", (number + 1,))
            self.run("release savepoint one")
            self.commit()
        check(self.query(f"select a from {table} order by a"), [(n,) for n in (10, 11, 20, 21, 30, 31)])
        self.query(f"drop table {table}")

    def step_copy(self):
        table = self.table("copy")
        self.query(f"create table {table} (a int, b text)")
        lines = "".join(f"{n}\t{self.tag} {n}\n" for n in range(1000))
        for _ in range(3):
            self.copy_in(f"copy {table} from stdin", lines)
            self.conn.commit()
            check(self.copy_out(f"copy (select * from {table} order by a) to stdout"), lines)
            self.conn.commit()
            try:
                self.copy_in(f"copy {table} from stdin", "1\tgood\nbad\tbad\n")
                raise Wrong("expected 22P02 from a COPY of bad data, got success")
            except self.error_class as e:
                check(self.sqlstate(e), "22P02", "COPY of bad data")
            self.conn.rollback()
            self.works()
            self.query(f"delete from {table} where a >= %s", (0,))
        self.query(f"drop table {table}")

    def step_cancel(self):
        self.begin()
        check(self.run("select 1"), [(1,)])
        ended = threading.Event()

        def cancel():
            while True:
                self.cancel()
                if ended.wait(CANCEL_INTERVAL_S):
                    return

        canceler = threading.Thread(target=cancel)
        canceler.start()
        try:
            self.fails("57014", "select pg_sleep(%s)", (60,))
        finally:
            ended.set()
            canceler.join()
        self.rollback()
        self.works()

    def step_reuse(self):
        text = "select %s::text || ':' || %s::int"
        for n in range(100):
            if n % 5 == 0:
                self.begin()
                check(self.run(text, (self.tag, n)), [(f"{self.tag}:{n}",)])
                check(self.run(text, (self.tag, -n)), [(f"{self.tag}:{-n}",)])
                self.commit()
            else:
                check(self.query(text, (self.tag, n)), [(f"{self.tag}:{n}",)])

    def step_ddl(self):
        table = self.table("ddl")
        self.query(f"create table {table} (a int, b text)")
        self.query(f"insert into {table} values (1, %s)", (self.tag,))
        text = f"select * from {table} where a = %s"
        with self.other() as other:
            for round in range(2):
                old = (1, self.tag) + tuple(range(round))
                for _ in range(6):
                    check(self.query(text, (1,)), [old], "before ALTER TABLE")
                other.query(f"alter table {table} add column c{round} int default {round}")
                for _ in range(3):
                    self.select_after_ddl(text, old + (round,))
        self.query(f"drop table {table}")

    def select_after_ddl(self, text, row):
        try:
            check(self.query(text, (1,)), [row], "after ALTER TABLE")
        except self.error_class as e:
            check(self.sqlstate(e), "0A000", "after ALTER TABLE")
            self.conn.rollback()
            self.prepare_anew()
            check(self.query(text, (1,)), [row], "prepared anew after ALTER TABLE")

    def prepare_anew(self):
        """Makes the driver forget its statements."""

    def step_many(self):
        for round in range(3):
            for n in range(200):
                check(self.query(f"select %s::text || ':{n}'", (self.tag,)), [(f"{self.tag}:{n}",)])

    def step_parameters(self):
        keep, self.conn = self.conn, None
        try:
            self.connect(zone=self.zone, application_name=self.tag)
            expected = [(self.zone, self.tag, NOON[self.zone])]
            text = ("select current_setting('TimeZone'), current_setting('application_name'), "
                    "(%s::text)::timestamptz::text")
            for _ in range(30):
                check(self.query(text, ("2024-07-01 12:00+00",)), expected)
        finally:
            self.disconnect()
            self.conn = keep

    def step_reconnect(self):
        for _ in range(10):
            with self.other() as other:
                other.works()
                other.works()

    def step_pipeline(self):
        raise Skip("the driver has none")

    def step_tagged(self):
        for n in itertools.count(0, 5):
            if n >= 200:
                return
            for k in range(n, n + 4):
                check(self.query("select %s::text, %s::int", (self.tag, k)), [(self.tag, k)])
            self.begin()
            check(self.run("select %s::text, %s::int", (self.tag, n)), [(self.tag, n)])
            check(self.run("select %s::text, %s::int + 1", (self.tag, n)), [(self.tag, n + 1)])
            self.commit()


class Closing:
    """Lends a client for a block and disconnects it after that."""

    def __init__(self, client):
        self.client = client

    def __enter__(self):
        return self.client

    def __exit__(self, *_):
        self.client.disconnect()
