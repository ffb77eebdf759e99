"""
The classifier of SQL texts against PostgreSQL.

PostgreSQL itself says how many statements a text has: a simple query answers each with a tag, and Parse refuses more
than one. And it says what they have done to the session. The texts are made by chance, from a seed, of whole statements
with odd constants, names and comments in them, and of loose tokens.
"""
import os
import random
import subprocess

import pytest

from harness import pooler as pl
from harness import wire

pytestmark = pytest.mark.ours

SEED = int(os.environ.get("PGSLUICE_TEST_SEED", "1"))
ODD = ["a", ";", "'", '"', "\\", "$", "$$", "--", "/*", "*/", "\n", "(", "begin atomic ", "é", " end", "$a$"]


def program():
    places = [os.path.dirname(os.path.abspath(pl.binary())), os.getcwd()]
    paths = [os.path.join(p, "test", "integration", "programs", "classify") for p in places]
    found = [p for p in paths if os.access(p, os.X_OK)]
    assert found, f"make check builds {paths[0]}"
    return found[0]


class Verdict:
    def __init__(self, line):
        self.error, self.statements, kinds, self.deallocate, name = line.split("\t")
        self.statements = int(self.statements)
        self.kinds = set(kinds.split(",")) - {""}
        self.name = bytes.fromhex(name)


def classify(texts, scs):
    """What the classifier says to each of the texts."""
    lines = "".join(f"{int(scs)} {t.encode().hex()}\n" for t in texts)
    out = subprocess.run([program()], input=lines, capture_output=True, text=True, check=True).stdout
    verdicts = [Verdict(line) for line in out.splitlines()]
    assert len(verdicts) == len(texts)
    return verdicts


# What a statement is made of: {placeholders} by the methods of Writer, a gap of any kind at each space.
FORMS = [
    ("OTHER", "{select}"),
    ("OTHER", "values ( {expression} )"),
    ("OTHER", "( {select} ) limit 1"),
    ("OTHER", "do {block}"),
    ("OTHER", "insert into victim values ( 1 ) returning {expression}"),
    ("OTHER", "explain ( costs off ) {select}"),
    ("OTHER", "set local sluice.y = 1"),
    ("OTHER", "set local local.x to 1"),
    ("OTHER", "set constraints all deferred"),
    ("SET", "set sluice.x = {word}"),
    ("SET", "set session sluice.x to {word}"),
    ("SET", "set local.x = 1"),
    ("SET", "set transaction.x to 1"),
    ("SET", "reset sluice.x"),
    ("LISTEN", "listen {new}"),
    ("UNLISTEN", "unlisten *"),
    ("DECLARE WITH HOLD", "declare {new} no scroll cursor with hold for {select}"),
    ("DECLARE WITH HOLD", "declare {new} binary cursor with hold for {select}"),
    ("TEMP", "create temp table {new} ( a int )"),
    ("TEMP", "create local temporary table {new} as {select}"),
    ("TEMP", "create or replace temp view {new} as {select}"),
    ("TEMP", "create temporary sequence {new}"),
    ("TEMP", "create table pg_temp . {new} ( a int )"),
    ("TEMP", "select {expression} as a into temp {new}"),
    ("TEMP", "with w as ( select 1 as a ) select * into local temporary table {new} from w"),
    ("COPY", "copy ( {select} ) to stdout"),
    ("DDL", "create or replace rule r as on insert to victim do also ( select 1 ; ; {select} ; )"),
    ("DDL", "create or replace function {new} ( begin int ) returns int begin atomic {select} ; select 1 end ; end"),
    ("DDL", "create or replace procedure {new} ( ) begin atomic end"),
    ("TRANSACTION", "begin"),
    ("TRANSACTION", "start transaction"),
    ("TRANSACTION+COMMIT", "commit"),
    ("TRANSACTION+COMMIT", "end"),
    ("TRANSACTION+ROLLBACK", "rollback"),
    ("PREPARE", "prepare {prepare} as {select}"),
    ("PREPARE", "prepare {prepare} ( int , text ) as {select}"),
    ("EXECUTE", "execute {prepared}"),
    ("EXECUTE", "explain execute {prepared}"),
    ("EXECUTE", "explain ( verbose , costs off ) execute {prepared}"),
    ("DEALLOCATE", "deallocate {forgotten}"),
    ("DEALLOCATE", "deallocate prepare {forgotten}"),
    ("DEALLOCATE ALL", "deallocate {all}"),
    ("DEALLOCATE ALL", "deallocate prepare {all}"),
]


class Writer:
    """Writes statements in many ways, all of which succeed."""

    def __init__(self, rng, scs):
        self.rng, self.scs, self.count = rng, scs, 0
        self.without, self.with_types = [], []

    def gap(self):
        """What may stand between two tokens."""
        gaps = ["\n", " \t", "/* ; */", "/*/* ;' */*/", "-- ;'\"$$\n", "/*/*/;*/*/", "/**/", "--\r", " \f", "/***/"]
        return self.rng.choice(gaps) if self.rng.random() < 0.3 else " "

    def odd(self):
        return "".join(self.rng.choice(ODD) for _ in range(self.rng.randrange(6)))

    def parts(self, quote):
        """Pieces of one constant, which goes on behind a line's end."""
        out = quote(self.odd())
        while self.rng.random() < 0.3:
            out += self.rng.choice(["\n", " \n", "--';\n", " -- \n\t--;\n ", "\r"]) + quote(self.odd())
        return out

    def constant(self):
        def doubled(s):
            return "'" + s.replace("'", "''") + "'"

        def escaped(s):
            return "'" + s.replace("\\", "\\\\").replace("'", self.rng.choice(["\\'", "''"])) + "'"

        forms = [
            lambda: self.parts(doubled if self.scs else escaped),
            lambda: self.rng.choice("Ee") + self.parts(escaped),
            lambda: self.rng.choice("Nn") + self.parts(doubled if self.scs else escaped),
            lambda: "B" + self.rng.choice(["'01'", "'1'\n'0'", "''"]),
            lambda: "x'1f'",
            self.dollars,
        ]
        if self.scs:
            forms.append(lambda: "U&" + self.parts(lambda s: doubled(s.replace("\\", "\\\\"))))
        return self.rng.choice(forms)()

    def dollars(self):
        while True:
            tag, text = self.rng.choice(["$$", "$a$", "$_é1$", "$A$"]), self.odd() + self.odd()
            if (text + tag).index(tag) == len(text):
                return tag + text + tag

    def expression(self):
        forms = [
            self.constant,
            self.constant,
            lambda: str(self.rng.randrange(100)) + self.rng.choice(["", ".5", "e2"]),
            lambda: self.text("( {expression} )"),
            lambda: self.text("case when true then {constant} end"),
            lambda: self.text("array [ {constant} ]"),
            lambda: "1" + self.rng.choice("+-*/") + " " + self.gap() + "2",
            lambda: self.text("date '2020-01-01'"),
        ]
        return self.rng.choice(forms)()

    def select(self):
        forms = ["select {expression}", "select {expression} as {label}", "select {expression} x"]
        return self.text(self.rng.choice(forms))

    def label(self):
        quoted = '"x' + self.odd().replace('"', '""') + '"'
        return self.rng.choice(["a", "a$b$", "é$$", "e", "begin", "atomic", '"end"', quoted, "X"])

    def word(self):
        return self.rng.choice(["1", "on", "'a;'", '"b;"'])

    def block(self):
        return self.rng.choice(["'begin end;'", "$$begin end$$", "E'begin\nend'"])

    def new(self):
        self.count += 1
        return f"n{self.count}"

    def prepare(self, statements):
        name = self.new()
        statements.append(name if self.rng.random() < 0.5 else f'"{name} ;"')
        return statements[-1]

    def forget(self):
        self.without.clear()
        self.with_types.clear()
        return "all"

    def text(self, form):
        def token(t):
            if not t.startswith("{"):
                return t.upper() if self.rng.random() < 0.2 and "'" not in t else t
            if t == "{prepare}":
                return self.prepare(self.with_types if "( int" in form else self.without)
            if t == "{prepared}":
                return self.rng.choice(self.without)
            if t == "{forgotten}":
                names = self.without or self.with_types
                return names.pop(self.rng.randrange(len(names)))
            return {"{all}": self.forget}.get(t, getattr(self, t[1:-1], None))()

        first, *rest = [token(t) for t in form.split(" ")]
        return first + "".join(self.gap() + t for t in rest)

    def statement(self):
        """(kind, text)"""
        while True:
            kind, form = self.rng.choice(FORMS)
            if "{prepared}" in form and not self.without:
                continue
            if "{forgotten}" in form and not self.without + self.with_types:
                continue
            return kind, self.text(form)

    def statements(self):
        """(kinds, number of statements, text)"""
        kinds, count, out = set(), 0, ""
        for _ in range(self.rng.randrange(6)):
            if self.rng.random() < 0.1:
                out += self.gap() + ";"
            kind, text = self.statement()
            kinds.update(kind.split("+"))
            count += 1
            out += self.gap() + text + self.gap() + ";"
        if count and self.rng.random() < 0.5:
            out = out[: out.rindex(";")] + self.gap()
        return kinds, count, out


@pytest.fixture
def session(cluster, database):
    """A connection to PostgreSQL without a pooler, in a database of its own."""
    name = database()
    cluster.sql("create table victim (a int)", dbname=name)
    cluster.sql("grant all on victim to app; alter table victim owner to app", dbname=name)
    conn = wire.Conn.tcp(cluster.port)
    conn.login("app", name, params={"client_encoding": "UTF8", "client_min_messages": "error"})
    yield conn
    conn.close()


def session_state(session):
    """Which kinds the session itself admits to."""
    probes = {
        "PREPARE": "select count(*) from pg_prepared_statements where from_sql",
        "DECLARE WITH HOLD": "select count(*) from pg_cursors where is_holdable",
        "LISTEN": "select count(*) from pg_listening_channels()",
        "TEMP": "select count(*) from pg_class where relpersistence = 't'",
        "SET": "select count(nullif(current_setting(n, true), ''))"
        " from unnest('{sluice.x,local.x,transaction.x}'::text[]) n",
    }
    return {kind for kind, probe in probes.items() if session.value(probe) != "0"}


def tag_kinds(tags):
    """Kinds of which PostgreSQL's tags leave no doubt."""
    sure = {"PREPARE", "DEALLOCATE", "DEALLOCATE ALL", "LISTEN", "UNLISTEN", "COPY", "LOAD"}
    ends = dict.fromkeys(["BEGIN", "START TRANSACTION", "COMMIT", "ROLLBACK"], "TRANSACTION")
    words = [" ".join(w for w in tag.split(" ") if not w.isdigit()) for tag in tags]
    return {w for w in words if w in sure} | {ends[w] for w in words if w in ends}


@pytest.mark.parametrize("scs", [True, False])
def test_number_and_kinds_of_statements(session, scs):
    rng = random.Random(SEED)
    assert not session.query(f"set standard_conforming_strings = {'on' if scs else 'off'}").errors
    texts = [Writer(rng, scs).statements() for _ in range(400)]
    for (kinds, count, text), verdict in zip(texts, classify([t for _, _, t in texts], scs)):
        result = session.query(text)
        assert not result.errors, (text, result.error)
        assert len(result.tags) == count, text
        assert (verdict.error, verdict.statements, verdict.kinds) == ("no error", count, kinds), text
        assert tag_kinds(result.tags) <= verdict.kinds, text
        if result.status != "I":
            assert not session.query("rollback").errors
        assert session_state(session) <= verdict.kinds, text
        session.query("discard all")
        session.query(f"set standard_conforming_strings = {'on' if scs else 'off'}; set client_min_messages = error")


TOKENS = [
    " ", " ", "\n", ";", ";", "'", "''", '"', "$$", "$$", "$a$", "$", "\\", "\\'", "-- ", "/*", "*/", "-", "/",
    "*", "1", "1.5", "e'", "E'", "b'", "X'", "n'", "U&'", 'U&"', "(", ")", "[1]", ",", ".", ":", "=", "<", "a",
    "e", "é", "_1", "$1", "select ", "select 1", " as ", "begin", " atomic ", "end",
    " case when 1=1 then 1 end", "create ", "function f() ", "returns int ", "return 1",
    "create function f() returns int begin atomic ", "create rule r as on insert to t do also (", "table t",
    "prepare p as ", "union ", "date ", "' '", "'a'", "deallocate ", "all", "set local ", "x", "in (1)",
]  # fmt: skip


def parse_count(session, text):
    """0 or 1 ("few"), 2 ("many"), or None where Parse does not tell."""
    session.send(wire.parse("", text), wire.SYNC)
    error = session.read_ready().error
    if error is None or error.code in ("42P01", "42703", "42704", "42883", "42804", "22P02"):
        return "few"
    return "many" if "multiple commands" in error.text else None


@pytest.mark.parametrize("scs", [True, False])
def test_loose_tokens(session, scs):
    rng = random.Random(SEED + 1)
    starts = ["", "select 1;", "select ", "select 'a'", "select $$a", "select e'", 'select "a"', "create function f() "]
    texts = [
        rng.choice(starts) + "".join(rng.choice(TOKENS) for _ in range(rng.randrange(1, 12)))
        for _ in range(int(os.environ.get("PGSLUICE_TEST_TEXTS", "4000")))
    ]
    session.query(f"set standard_conforming_strings = {'on' if scs else 'off'}")
    told = 0
    for text, verdict in zip(texts, classify(texts, scs)):
        truth = parse_count(session, text)
        if truth is None:
            continue
        told += 1
        assert verdict.error == "no error", text
        assert (verdict.statements > 1) == (truth == "many"), (text, truth, verdict.statements)
    assert told > len(texts) / 100


NAMES = ["p", "P", '"P"', '"a""b"', "é", "É", '"é;"', "a$1", "prepare", "transaction", "x" * 63, "X" * 70]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_deallocate(session, name):
    """PostgreSQL stores what SQL names so under the name that the classifier makes of it."""
    (verdict,) = classify([f"/* */ deallocate --\n {name} ;"], True)
    assert verdict.deallocate == "name"
    assert not session.query(f"prepare {name} as select 1").errors
    assert session.value("select name from pg_prepared_statements").encode() == verdict.name
    assert not session.query(f"deallocate {name}").errors
