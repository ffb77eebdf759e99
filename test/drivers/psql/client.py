"""psql: each step of each client is one script, whose whole output is compared."""

import os
import signal
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from scenario import MEGABYTE, NOON, Client, Skip, check, main  # noqa: E402

COMMAND = ["psql", "-X", "-A", "-t", "-q", "-v", "VERBOSITY=sqlstate"]
INTERRUPT_INTERVAL_S = 0.2


class PsqlClient(Client):
    def connect(self):
        """Each script has a connection of its own."""

    def disconnect(self):
        """psql has ended by itself."""

    def script(self, text, **env):
        """What psql prints, errors in their place: `ERROR:  <SQLSTATE>`. {T} is the client's table, {tag} its tag."""
        text = text.replace("{tag}", self.tag).replace("{T}", self.table("t"))
        done = subprocess.run([*COMMAND, "-f", "-"], input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, env=dict(os.environ, **env))
        return [line.replace("psql:<stdin>:", "") for line in done.stdout.splitlines()]

    def expect(self, text, *lines, **env):
        """Compares; the line number that psql puts in front of an error is left out."""
        got = [line.split(": ", 1)[-1].strip() if ": ERROR:" in line else line for line in self.script(text, **env)]
        check(got, [line.replace("{tag}", self.tag) for line in lines], text.strip().splitlines()[0])

    def step_types(self):
        self.expect(
            "\\set v 'it''s ''\"ř\"'' 馬'\n"
            "select 2147483647::int, -9223372036854775807::bigint, 1.10::numeric, :'v', true, date '1999-12-31';\n"
            "select '{1,2}'::int[], '{\"a\": 1}'::json, '\\x00ff'::bytea, '12345678-9abc-def0-1234-56789abcdef0'::uuid;\n",
            "2147483647|-9223372036854775807|1.10|it's '\"ř\"' 馬|t|1999-12-31",
            '{1,2}|{"a": 1}|\\x00ff|12345678-9abc-def0-1234-56789abcdef0',
        )

    def step_nulls(self):
        self.expect("\\pset null NULL\nselect null, null::int, '', '{}'::int[];\n", "NULL|NULL||{}")

    def step_large(self):
        big = "x" * MEGABYTE
        self.expect(f"select length('{big}'), '{big}';\nselect repeat('y', {MEGABYTE});\n", f"{MEGABYTE}|{big}",
                    "y" * MEGABYTE)

    def step_error(self):
        self.expect(
            "select 1 / 0;\nselect '{tag}';\nselect * from no_such_table;\nselect '{tag}';\nselec;\nselect '{tag}';\n"
            "select '{tag}' \\; select 1 / 0 \\; select 3;\nselect '{tag}' \\; select 4;\n",
            "ERROR:  22012", "{tag}", "ERROR:  42P01", "{tag}", "ERROR:  42601", "{tag}", "{tag}", "ERROR:  22012",
            "{tag}", "4",
        )

    def step_error_in_transaction(self):
        self.expect(
            "create table {T} (a int);\nbegin;\ninsert into {T} values (1);\nselect 1 / 0;\nselect 'x';\nrollback;\n"
            "select count(*), '{tag}' from {T};\ndrop table {T};\n",
            "ERROR:  22012", "ERROR:  25P02", "0|{tag}",
        )

    def step_transaction(self):
        """With AUTOCOMMIT off psql begins by itself."""
        self.expect(
            "create table {T} (a int);\nbegin;\ninsert into {T} values (1);\ncommit;\nselect count(*) from {T};\n"
            "begin;\ninsert into {T} values (2);\nrollback;\nselect count(*) from {T};\n"
            "\\set AUTOCOMMIT off\ninsert into {T} values (3);\nrollback;\ninsert into {T} values (4);\ncommit;\n"
            "select a from {T} order by a;\ncommit;\nbegin \\; insert into {T} values (5) \\; rollback;\n"
            "select count(*) from {T};\nrollback;\n",
            "1", "1", "1", "4", "2",
        )
        self.expect("select count(*) from {T};\ndrop table {T};\n", "2")

    def step_savepoint(self):
        """With ON_ERROR_ROLLBACK psql makes a savepoint before each statement."""
        self.expect(
            "create table {T} (a int primary key);\n\\set ON_ERROR_ROLLBACK on\nbegin;\ninsert into {T} values (1);\n"
            "insert into {T} values (1);\ninsert into {T} values (2);\ncommit;\n\\set ON_ERROR_ROLLBACK off\n"
            "begin;\ninsert into {T} values (3);\nsavepoint s;\ninsert into {T} values (3);\nrollback to s;\n"
            "insert into {T} values (4);\nrelease s;\ncommit;\nselect a from {T} order by a;\ndrop table {T};\n",
            "ERROR:  23505", "ERROR:  23505", "1", "2", "3", "4",
        )

    def step_copy(self):
        rows = [f"{n}\t{self.tag} {n}" for n in range(1000)]
        text = "\n".join(rows)
        self.expect(f"create table {{T}} (a int, b text);\n\\copy {{T}} from stdin\n{text}\n\\.\n"
                    "\\copy (select * from {T} order by a) to stdout\n"
                    "copy {T} from stdin;\n1\tgood\nbad\tbad\n\\.\nselect count(*) from {T};\n"
                    "copy (select 1) to stdout;\ndrop table {T};\n", *rows, "ERROR:  22P02", "1000", "1")

    def step_cancel(self):
        """A notice tells that the statement runs; interrupts go to psql, which sends the cancel request."""
        sleep = "do $$ begin raise notice 'ready'; perform pg_sleep(60); end $$"
        proc = subprocess.Popen([*COMMAND, "-c", "begin", "-c", "select 1", "-c", sleep],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        check([proc.stdout.readline().strip(), proc.stdout.readline().strip()], ["1", "NOTICE:  00000"])
        ended = threading.Event()

        def interrupt():
            while not ended.wait(INTERRUPT_INTERVAL_S):
                proc.send_signal(signal.SIGINT)

        proc.send_signal(signal.SIGINT)
        interrupter = threading.Thread(target=interrupt)
        interrupter.start()
        output = proc.stdout.read().split()
        ended.set()
        interrupter.join()
        proc.wait()
        check(output[-2:], ["ERROR:", "57014"])
        self.expect("select '{tag}';\n", "{tag}")

    def step_reuse(self):
        """\\gset and \\gexec: psql runs what it was answered; a cursor by FETCH_COUNT; statements without PREPARE."""
        self.expect(
            "select '{tag}' as mine \\gset\nselect :'mine';\n"
            "select format('select %L, %s', '{tag}', n) from generate_series(1, 3) n \\gexec\n"
            "\\set FETCH_COUNT 7\nselect '{tag}', n from generate_series(1, 30) n;\n",
            "{tag}", *(f"{{tag}}|{n}" for n in range(1, 4)), *(f"{{tag}}|{n}" for n in range(1, 31)),
        )

    def step_ddl(self):
        """A description of the table, before and after; these queries on catalogs are the largest that psql has."""
        self.expect("create table {T} (a int);\n\\d {T}\n", "a|integer|||")
        self.expect("alter table {T} add column b text default '{tag}';\n")
        self.expect("insert into {T} values (1);\n\\d {T}\nselect * from {T};\ndrop table {T};\n", "a|integer|||",
                    "b|text|||'{tag}'::text", "1|{tag}")

    def step_deallocate(self):
        raise Skip("no prepared statements but those of SQL")

    def step_many(self):
        text = "".join(f"select '{{tag}}:{n}';\n" for n in range(200))
        self.expect(text * 3, *([f"{{tag}}:{n}" for n in range(200)] * 3))

    def step_parameters(self):
        text = ("select current_setting('TimeZone'), current_setting('application_name'), "
                "timestamptz '2024-07-01 12:00+00';\n")
        self.expect(text * 30, *[f"{self.zone}|{{tag}}|{NOON[self.zone]}"] * 30, PGTZ=self.zone, PGAPPNAME=self.tag)
        self.expect(text * 30, *[f"{self.zone}|{{tag}}|{NOON[self.zone]}"] * 30,
                    PGOPTIONS=f"-c TimeZone={self.zone} --application_name={self.tag}", PGAPPNAME=self.tag)

    def step_reconnect(self):
        """\\connect within one psql."""
        self.expect("select '{tag}';\n\\connect\n" * 10, *["{tag}"] * 10)

    def step_pipeline(self):
        raise Skip("this psql has none")

    def step_tagged(self):
        lines = []
        for n in range(200):
            lines.append(f"begin;\nselect '{{tag}}', {n};\ncommit;\n" if n % 5 == 0 else f"select '{{tag}}', {n};\n")
        self.expect("".join(lines), *(f"{{tag}}|{n}" for n in range(200)))


version = subprocess.run(["psql", "--version"], text=True, capture_output=True).stdout.split("(")[-2].split()[-1]
main(PsqlClient, version)
