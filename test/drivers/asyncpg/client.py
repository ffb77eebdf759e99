"""asyncpg: everything is prepared and bound in two steps; names come from its cache, which odd clients do without."""

import asyncio
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import asyncpg  # noqa: E402

from scenario import MEGABYTE, NOON, Client, Tasks, Wrong, check, main, typed_values  # noqa: E402


class AsyncpgClient(Client):
    def settings(self):
        return {"statement_cache_size": 0} if self.number % 2 else {}

    async def connect(self):
        self.conn = await asyncpg.connect(**self.settings())

    async def disconnect(self):
        if self.conn:
            await self.conn.close()
            self.conn = None

    async def value(self, text, *args):
        return await self.conn.fetchval(text, *args)

    async def works(self):
        check(await self.value("select $1::text", self.tag), self.tag, "a good statement")

    async def fails(self, sqlstate, text, *args):
        try:
            rows = await self.conn.fetch(text, *args)
        except asyncpg.PostgresError as e:
            check(e.sqlstate, sqlstate, text)
            return
        raise Wrong(f"expected {sqlstate}, got {len(rows)} rows ({text})")

    async def step_types(self):
        values = typed_values(int=-2147483648, json='{"a": [1, null, "ř"]}')
        columns = ", ".join(f"${n}::{name}" for n, name in enumerate(values, 1))
        for _ in range(5):
            check(list(await self.conn.fetchrow(f"select {columns}", *values.values())), list(values.values()))
        # Types that the driver has to look up in the catalogs.
        check(await self.value("select row(1, 'x')::text, $1::regclass::text", "pg_class"), "(1,x)")

    async def step_nulls(self):
        text = "select $1::int, $2::text, $3::bytea, $4::timestamptz, $5::int[], $6::text"
        for _ in range(5):
            check(list(await self.conn.fetchrow(text, None, None, None, None, None, "")), [None] * 5 + [""])
            check(list(await self.conn.fetchrow(text, 1, "", b"", None, [], None)), [1, "", b"", None, [], None])

    async def step_large(self):
        text, data = self.tag + "ř" * (MEGABYTE // 2), bytes(range(256)) * (MEGABYTE // 256)
        row = await self.conn.fetchrow("select $1::text, $2::bytea, length($1)", text, data)
        check((row[0] == text, row[1] == data, row[2]), (True, True, len(text)))
        check(await self.value("select repeat($1, $2)", "z", MEGABYTE) == "z" * MEGABYTE, True)

    async def step_error(self):
        for _ in range(5):
            await self.fails("22012", "select 1 / $1::int", 0)
            await self.works()
            await self.fails("42P01", "select * from no_such_table where x = $1", 1)
            await self.works()
            await self.fails("42601", "selec $1", 1)
            await self.works()

    async def step_error_in_transaction(self):
        table = self.table("eit")
        await self.conn.execute(f"create table {table} (a int)")
        for _ in range(3):
            try:
                async with self.conn.transaction():
                    await self.conn.execute(f"insert into {table} values ($1)", 1)
                    await self.fails("22012", "select 1 / $1::int", 0)
                    await self.fails("25P02", "select $1::text || 'x'", "x")
                    raise KeyError
            except KeyError:
                await self.works()
        check(await self.value(f"select count(*) from {table}"), 0)
        await self.conn.execute(f"drop table {table}")

    async def step_transaction(self):
        table = self.table("tx")
        await self.conn.execute(f"create table {table} (a int)")
        other = await asyncpg.connect(**self.settings())
        for number in range(5):
            async with self.conn.transaction():
                await self.conn.execute(f"insert into {table} values ($1)", number)
            check(await other.fetchval(f"select count(*) from {table}"), number + 1, "after commit")
            transaction = self.conn.transaction()
            await transaction.start()
            await self.conn.execute(f"insert into {table} values ($1)", number)
            await transaction.rollback()
            check(await other.fetchval(f"select count(*) from {table}"), number + 1, "after rollback")
        await other.close()
        await self.conn.execute(f"drop table {table}")

    async def step_savepoint(self):
        table = self.table("sp")
        await self.conn.execute(f"create table {table} (a int primary key)")
        for number in (10, 20, 30):
            async with self.conn.transaction():
                await self.conn.execute(f"insert into {table} values ($1)", number)
                try:
                    async with self.conn.transaction():
                        await self.conn.execute(f"insert into {table} values ($1)", number)
                except asyncpg.UniqueViolationError:
                    await self.conn.execute(f"insert into {table} values ($1)", number + 1)
        got = [row[0] for row in await self.conn.fetch(f"select a from {table} order by a")]
        check(got, [10, 11, 20, 21, 30, 31])
        await self.conn.execute(f"drop table {table}")

    async def step_copy(self):
        table = self.table("copy")
        await self.conn.execute(f"create table {table} (a int, b text)")
        rows = [(n, f"{self.tag} {n}") for n in range(1000)]
        lines = "".join(f"{n}\t{text}\n" for n, text in rows).encode()
        for _ in range(3):
            await self.conn.copy_records_to_table(table, records=rows)
            got = []

            async def collect(data):
                got.append(data)

            await self.conn.copy_from_query(f"select * from {table} order by a", output=collect)
            check(b"".join(got), lines)
            try:
                await self.conn.copy_to_table(table, source=parts(b"1\tgood\nbad\tbad\n"))
                raise Wrong("expected 22P02 from a COPY of bad data, got success")
            except asyncpg.PostgresError as e:
                check(e.sqlstate, "22P02", "COPY of bad data")
            await self.works()
            check(await self.value(f"with d as (delete from {table} returning 1) select count(*) from d"), 1000)
        await self.conn.execute(f"drop table {table}")

    async def step_cancel(self):
        """The driver's way: a task that is canceled has its statement canceled. A notice tells that it runs."""
        running = asyncio.Event()
        listen = lambda *_: running.set()  # noqa: E731
        self.conn.add_log_listener(listen)
        transaction = self.conn.transaction()
        await transaction.start()
        check(await self.value("select 1"), 1)
        sleep = "do $$ begin raise notice 'ready'; perform pg_sleep(60); end $$"
        task = asyncio.ensure_future(self.conn.execute(sleep))
        await running.wait()
        task.cancel()
        try:
            await task
            raise Wrong("expected a canceled statement, got success")
        except asyncio.CancelledError:
            pass
        await self.fails("25P02", "select $1::text || 'x'", "x")
        await transaction.rollback()
        self.conn.remove_log_listener(listen)
        await self.works()

    async def step_reuse(self):
        statement = await self.conn.prepare("select $1::text || ':' || $2::int")
        for n in range(100):
            if n % 5 == 0:
                async with self.conn.transaction():
                    check(await statement.fetchval(self.tag, n), f"{self.tag}:{n}")
                    check(await statement.fetchval(self.tag, -n), f"{self.tag}:{-n}")
            else:
                check(await statement.fetchval(self.tag, n), f"{self.tag}:{n}")

    async def step_ddl(self):
        table = self.table("ddl")
        await self.conn.execute(f"create table {table} (a int, b text)")
        await self.conn.execute(f"insert into {table} values (1, $1)", self.tag)
        text = f"select * from {table} where a = $1"
        other = await asyncpg.connect(**self.settings())
        for round in range(2):
            old = (1, self.tag) + tuple(range(round))
            held = await self.conn.prepare(text)
            for _ in range(6):
                check(tuple(await self.conn.fetchrow(text, 1)), old, "before ALTER TABLE")
                check(tuple(await held.fetchrow(1)), old, "before ALTER TABLE")
            await other.execute(f"alter table {table} add column c{round} int default {round}")
            for _ in range(3):
                await self.after_ddl(held, old + (round,))
                check(tuple(await self.conn.fetchrow(text, 1)), old + (round,), "after ALTER TABLE")
            async with self.conn.transaction():
                check(tuple(await self.conn.fetchrow(text, 1)), old + (round,), "after ALTER TABLE")
        await other.close()
        await self.conn.execute(f"drop table {table}")

    async def after_ddl(self, held, row):
        """A statement that the program holds: the driver says that it is out of date, or the row is whole."""
        try:
            check(tuple(await held.fetchrow(1)), row, "held statement after ALTER TABLE")
        except asyncpg.InvalidCachedStatementError:
            pass

    async def step_deallocate(self):
        """A small cache closes its oldest statement; statement objects are closed when nobody holds them."""
        conn = await asyncpg.connect(statement_cache_size=5)
        for _ in range(3):
            for n in range(20):
                check(await conn.fetchval(f"select $1::text || '-{n}'", self.tag), f"{self.tag}-{n}")
                statement = await conn.prepare(f"select $1::text || '+{n % 7}'")
                check(await statement.fetchval(self.tag), f"{self.tag}+{n % 7}")
                del statement
            await conn.reload_schema_state()  # makes it forget all of them
        await conn.close()

    async def step_many(self):
        for _ in range(3):
            for n in range(200):
                check(await self.value(f"select $1::text || ':{n}'", self.tag), f"{self.tag}:{n}")

    async def step_parameters(self):
        expected = (self.zone, self.tag, NOON[self.zone])
        text = "select current_setting('TimeZone'), current_setting('application_name'), ($1::text)::timestamptz::text"
        settings = {"TimeZone": self.zone, "application_name": self.tag}
        conn = await asyncpg.connect(server_settings=settings, **self.settings())
        try:
            for _ in range(30):
                check(tuple(await conn.fetchrow(text, "2024-07-01 12:00+00")), expected)
        finally:
            await conn.close()
        # The driver's own pool says RESET ALL between its users, which is to bring back just these.
        async with asyncpg.create_pool(min_size=1, max_size=1, server_settings=settings, **self.settings()) as pool:
            for _ in range(5):
                async with pool.acquire() as conn:
                    check(tuple(await conn.fetchrow(text, "2024-07-01 12:00+00")), expected, "in the driver's pool")
                    await conn.execute("set timezone = 'Asia/Kolkata'")
                    check(await conn.fetchval("show timezone"), "Asia/Kolkata", "in the driver's pool")

    async def step_reconnect(self):
        for _ in range(10):
            conn = await asyncpg.connect(**self.settings())
            check(await conn.fetchval("select $1::text", self.tag), self.tag)
            check(await conn.fetchval("select $1::text", self.tag), self.tag)
            await conn.close()
        # The driver's own pool says UNLISTEN, RESET ALL and the like between its users.
        async with asyncpg.create_pool(min_size=1, max_size=2, **self.settings()) as pool:
            for _ in range(5):
                async with pool.acquire() as conn:
                    check(await conn.fetchval("select $1::text", self.tag), self.tag, "in the driver's pool")

    async def step_pipeline(self):
        """executemany() sends all of its executions in one batch, and all of it or nothing is done."""
        table = self.table("pipe")
        await self.conn.execute(f"create table {table} (a int primary key)")
        text = f"insert into {table} values ($1)"
        for _ in range(3):
            await self.conn.executemany(text, [(n,) for n in range(20)])
            try:
                await self.conn.executemany(text, [(n,) for n in range(90, 110)] + [(7,), (200,)])
                raise Wrong("expected 23505 in executemany, got success")
            except asyncpg.UniqueViolationError:
                pass
            check(await self.value(f"select count(*) from {table}"), 20)
            await self.works()
            await self.conn.execute(f"delete from {table}")
        await self.conn.execute(f"drop table {table}")

    async def step_tagged(self):
        text = "select $1::text, $2::int"
        for n in range(200):
            if n % 5 == 0:
                async with self.conn.transaction():
                    check(tuple(await self.conn.fetchrow(text, self.tag, n)), (self.tag, n))
                    check(tuple(await self.conn.fetchrow(text, self.tag, -n)), (self.tag, -n))
            else:
                check(tuple(await self.conn.fetchrow(text, self.tag, n)), (self.tag, n))


async def parts(data):
    yield data


main(AsyncpgClient, asyncpg.__version__, Tasks)
