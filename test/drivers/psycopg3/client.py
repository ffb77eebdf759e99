"""psycopg 3: extended protocol, statements prepared after five uses or at once, and libpq's pipeline mode."""

import logging
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import psycopg  # noqa: E402
import psycopg.types.json  # noqa: E402

from dbapi import DbapiClient  # noqa: E402
from scenario import Skip, Wrong, check, main  # noqa: E402

logging.getLogger("psycopg").setLevel(logging.CRITICAL)


class Psycopg3Client(DbapiClient):
    error_class = psycopg.Error

    def connect(self, zone=None, application_name=None):
        options = f"-c TimeZone={zone}" if zone else None
        self.conn = psycopg.connect("", options=options, application_name=application_name,
                                    autocommit=self.is_autocommit())
        if self.mode == "prepared":
            self.conn.prepare_threshold = 0

    def run(self, text, params=None):
        if self.mode != "pipeline":
            return super().run(text, params)
        with self.conn.pipeline():
            cursor = self.conn.execute(text, params)
        return cursor.fetchall() if cursor.description else []

    def adapt(self, value):
        return psycopg.types.json.Json(value) if isinstance(value, dict) else value

    def sqlstate(self, error):
        return getattr(error, "sqlstate", None) or repr(error)

    def copy_in(self, text, lines):
        with self.conn.cursor() as cursor, cursor.copy(text) as copy:
            for at in range(0, len(lines), 1000):
                copy.write(lines[at:at + 1000])

    def copy_out(self, text):
        with self.conn.cursor() as cursor, cursor.copy(text) as copy:
            return b"".join(bytes(block) for block in copy).decode()

    def cancel(self):
        self.conn.cancel()

    def prepare_anew(self):
        """There is no function for it, and not every ROLLBACK makes the driver forget what failed."""
        self.disconnect()
        self.connect()

    def fails(self, sqlstate, text, params=None):
        if self.mode == "pipeline":  # it does not notice that such a one was never prepared
            self.conn.prepare_threshold = None
        super().fails(sqlstate, text, params)
        self.conn.prepare_threshold = 0 if self.mode == "prepared" else 5

    def step_deallocate(self):
        """A full cache makes the driver say DEALLOCATE for its oldest statement.

        The connection is a new one: after a DROP TABLE in a pipeline this version takes for prepared what is not."""
        self.disconnect()
        self.connect()
        self.conn.prepare_threshold, self.conn.prepared_max = 0, 5
        for _ in range(3):
            for n in range(20):
                check(self.query(f"select %s::text || '-{n}'", (self.tag,)), [(f"{self.tag}-{n}",)])
        self.disconnect()
        self.connect()

    def step_pipeline(self):
        if not psycopg.Pipeline.is_supported():
            raise Skip("libpq is too old")
        for _ in range(3):
            self.pipeline_of_good()
            self.pipeline_with_error()
            self.works()

    def pipeline_of_good(self):
        with self.conn.pipeline() as pipeline:
            cursors = []
            for n in range(20):
                cursors.append(self.conn.execute("select %s::text, %s::int", (self.tag, n)))
                if n == 9:
                    pipeline.sync()  # two batches are in flight
            check([c.fetchone() for c in cursors], [(self.tag, n) for n in range(20)])
        self.conn.commit()

    def pipeline_with_error(self):
        cursors = []
        try:
            with self.conn.pipeline() as pipeline:
                for n in (5, 4, 0, 3):
                    cursors.append(self.conn.execute("select 100 / %s::int", (n,)))
                pipeline.sync()
                self.conn.execute("select 1")
            raise Wrong("expected 22012 in a pipeline, got success")
        except psycopg.errors.DivisionByZero:
            self.conn.rollback()
        check([c.fetchone() for c in cursors[:2]], [(20,), (25,)], "before the error")
        self.works()


libpq = psycopg.pq.version()
main(Psycopg3Client, f"{psycopg.__version__}, libpq {libpq // 10000}.{libpq % 10000}, {psycopg.pq.__impl__}")
