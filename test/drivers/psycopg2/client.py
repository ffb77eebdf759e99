"""psycopg2: everything is a simple query with the parameters in the text."""

import io
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import psycopg2  # noqa: E402
import psycopg2.extensions  # noqa: E402
import psycopg2.extras  # noqa: E402

from dbapi import DbapiClient  # noqa: E402
from scenario import Skip, check, main  # noqa: E402

psycopg2.extras.register_uuid()
psycopg2.extensions.register_adapter(dict, psycopg2.extras.Json)


class Psycopg2Client(DbapiClient):
    error_class = psycopg2.Error

    def connect(self, zone=None, application_name=None):
        options = f"-c TimeZone={zone}" if zone else None
        self.conn = psycopg2.connect("", options=options, application_name=application_name)
        self.conn.autocommit = self.is_autocommit()

    def sqlstate(self, error):
        return getattr(error, "pgcode", None) or repr(error)

    def copy_in(self, text, lines):
        with self.conn.cursor() as cursor:
            cursor.copy_expert(text, io.StringIO(lines))

    def copy_out(self, text):
        out = io.StringIO()
        with self.conn.cursor() as cursor:
            cursor.copy_expert(text, out)
        return out.getvalue()

    def cancel(self):
        self.conn.cancel()

    def step_reuse(self):
        """There are no prepared statements; a cursor with a name takes their place: rows by and by, one transaction."""
        for n in range(10):
            with psycopg2.connect("") as conn:
                with conn.cursor(name="c") as cursor:
                    cursor.itersize = 7
                    cursor.execute("select %s::text, n from generate_series(1, %s) n", (self.tag, 50))
                    check(list(cursor), [(self.tag, k) for k in range(1, 51)])
            conn.close()
        super().step_reuse()

    def step_deallocate(self):
        raise Skip("the driver has no prepared statements")


main(Psycopg2Client, f"{psycopg2.__version__.split()[0]}, libpq {psycopg2.extensions.libpq_version() / 10000}")
