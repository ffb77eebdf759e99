'use strict';

// The common scenario for the drivers of Node.js, and what is around it: arguments, concurrent clients, one line per
// step. All clients share the one thread; a step starts for all of them, and the next one begins when all have ended.
//
// A driver is given as an object:
//
//   modes           names; the first one is the default
//   version         of the driver
//   connect(client, mode, timeZone)  a session; timeZone may be absent
//   pipelines       in which modes statements are sent before the one in front of them is answered
//   forgets(mode)   whether a prepared statement must be given up by hand after DDL; else the driver sees to that
//   noClosing       why the driver closes no statements, if so
//
// A session has
//
//   query(text, values)          rows as arrays; with $1 and so on; by a prepared statement if that is the mode
//   run(text)                    a text without values, nothing comes back
//   transaction(work)            BEGIN, work(session), COMMIT; ROLLBACK and the error when work fails
//   savepoint(work)              the same for a part of a transaction
//   fetch(text, values, size)    as query(), in portions of so many rows
//   copyIn(text, data, isBad)    isBad: the error will come before the end of the data has been said
//   copyOut(text)
//   cancel()                     sleeps for long, and cancels that until it has ended, which throws the server's error
//   forget(text)                 the next use of the text prepares it anew
//   close()

const assert = require('assert');

const LARGE = 1 << 20;
const ZONES = [
	['UTC', '2026-01-15 12:00:00+00'],
	['Europe/Zurich', '2026-01-15 13:00:00+01'],
	['America/New_York', '2026-01-15 07:00:00-05'],
	['Asia/Tokyo', '2026-01-15 21:00:00+09'],
	['Asia/Kolkata', '2026-01-15 17:30:00+05:30'],
];

// A division by zero, or that the transaction has ended with one.
const ABORTED = ['22012', '25P02'];

class Mismatch extends Error {}
class Skip extends Error {}

function shorten(text) {
	const line = String(text).replace(/\n/g, ' ');
	return line.length <= 200 ? line : `${line.slice(0, 200)}... (${line.length} characters)`;
}

function show(value) {
	if (Buffer.isBuffer(value))
		return shorten(value.toString('hex'));
	return shorten(typeof value === 'string' || value === undefined ? value : JSON.stringify(value));
}

function same(what, expected, got) {
	try {
		assert.deepStrictEqual(got, expected);
	} catch (e) {
		throw new Mismatch(`expected ${show(expected)}, got ${show(got)} [${what}]`);
	}
}

/** The work must fail with this state; with one of them, where drivers differ in which error of a transaction they tell. */
async function fails(what, states, work) {
	try {
		await work();
	} catch (e) {
		if (e instanceof Mismatch)
			throw e;
		if (![].concat(states).includes(e.code))
			throw new Mismatch(`expected ${states}, got ${e.code} ${shorten(e.message)} [${what}]`);
		return;
	}
	throw new Mismatch(`expected ${states}, got no error [${what}]`);
}

const allBytes = (length) => Buffer.from(Uint8Array.from({ length }, (_, i) => i));

class Client {
	constructor(driver, mode, id, number) {
		Object.assign(this, { driver, mode, number, tag: `${id}-${number}`, prefix: `${id}_${number}`, own: null });
	}

	connect(timeZone) {
		return this.driver.connect(this, this.mode, timeZone);
	}

	async session() {
		this.own ??= await this.connect();
		return this.own;
	}

	/** Connects for as long as the work takes. */
	async other(work, timeZone) {
		const session = await this.connect(timeZone);
		try {
			return await work(session);
		} finally {
			await session.close();
		}
	}

	async drop() {
		const session = this.own;
		this.own = null;
		try {
			await session?.close();
		} catch (e) {
			// It is gone, which is all that was wanted.
		}
	}
}

/** The only value. */
async function ask(session, text, ...values) {
	const rows = await session.query(text, values);
	same('rows', 1, rows.length);
	same('columns', 1, rows[0].length);
	return rows[0][0];
}

async function good(client) {
	same('a good statement', client.tag, await ask(await client.session(), 'select $1::text', client.tag));
}

async function makeTable(session, name, columns) {
	await session.run(`drop table if exists ${name}`);
	await session.run(`create table ${name} (${columns})`);
}

const count = (session, table) => ask(session, `select count(*)::int from ${table} where $1::int = 1`, 1);

const steps = {
	async types(client) {
		const session = await client.session();
		const values = {
			int4: [0, -1, 2147483647, -2147483648],
			int8: ['9223372036854775806', '-9223372036854775807'],
			float8: [0.1, -1e300],
			numeric: ['-12345678901234567890.0123456789'],
			text: ['d\u00e9j\u00e0 vu \u4e16\u754c \u{1F600} \'"\\'],
			bytea: [allBytes(256)],
			bool: [true, false],
			timestamptz: [new Date('2026-11-21T15:16:17.123Z')],
			'int4[]': [[1, -2, 3]],
			'text[]': [['a,b', '', '"{}\\']],
			json: [{ a: [1, null, '\u00e9'] }],
			uuid: ['0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0'],
		};
		for (const [type, list] of Object.entries(values)) {
			for (const value of list) {
				for (let i = 0; i < 3; i++)
					same(type, value, await ask(session, `select $1::${type}`, value));
			}
		}
		same('date', '2024-02-29', await ask(session, 'select $1::text::date::text', '2024-02-29'));
	},

	async nulls(client) {
		const session = await client.session();
		for (const type of ['int4', 'text', 'bytea', 'timestamptz', 'int4[]'])
			same(type, null, await ask(session, `select $1::${type}`, null));
		same('an empty text', '', await ask(session, 'select $1::text', ''));
		same('an empty array', [], await ask(session, 'select $1::int4[]', []));
		same('a row', [[null, null, null, null]],
			await session.query('select null::int, null::text, null::bytea, null::int[] where $1::int = 1', [1]));
	},

	async large(client) {
		const session = await client.session();
		const text = ('0123456789abcde' + String.fromCharCode(65 + client.number % 26)).repeat(LARGE / 16);
		const bytes = allBytes(LARGE);
		for (let i = 0; i < 2; i++)
			same('text and bytea', [[text, bytes]], await session.query('select $1::text, $2::bytea', [text, bytes]));
		same('repeat', 'x'.repeat(LARGE), await ask(session, "select repeat('x', $1::int)", LARGE));
	},

	async error(client) {
		const session = await client.session();
		for (let i = 0; i < 3; i++) {
			await fails('division', '22012', () => ask(session, 'select 1/$1::int', 0));
			await good(client);
			await fails('no such table', '42P01', () => ask(session, 'select * from no_such_table where a = $1', 1));
			await good(client);
			await fails('syntax', '42601', () => session.run('selec 1'));
			await good(client);
		}
	},

	async error_in_transaction(client) {
		const session = await client.session();
		const table = `${client.prefix}_err`;
		await makeTable(session, table, 'n int');
		await fails('the transaction', ABORTED, () => session.transaction(async (t) => {
			await t.query(`insert into ${table} values ($1)`, [1]);
			await fails('division', '22012', () => ask(t, 'select 1/$1::int', 0));
			await fails('the next one', '25P02', () => ask(t, 'select $1::text', 'x'));
			await ask(t, 'select $1::text', 'x');
		}));
		await good(client);
		same('rows', 0, await count(session, table));
		await session.run(`drop table ${table}`);
	},

	async transaction(client) {
		const session = await client.session();
		const table = `${client.prefix}_tra`;
		await makeTable(session, table, 'n int');
		await client.other(async (other) => {
			for (let i = 1; i <= 5; i++) {
				await session.transaction((t) => t.query(`insert into ${table} values ($1)`, [i]));
				same('after COMMIT', i, await count(other, table));
				await fails('to be rolled back', '22012', () => session.transaction(async (t) => {
					await t.query(`insert into ${table} values ($1)`, [-i]);
					await ask(t, 'select 1/$1::int', 0);
				}));
				same('after ROLLBACK', i, await count(other, table));
			}
		});
		// A portal lives until the end of the transaction, which is the next Sync where there is no BEGIN.
		const expected = Array.from({ length: 100 }, (_, i) => [i + 1]);
		const series = (s) => s.fetch('select n from generate_series(1, $1::int) n', [100], 7);
		same('portions', expected, await series(session));
		same('portions in a transaction', expected, await session.transaction(series));
		await session.run(`drop table ${table}`);
	},

	async savepoint(client) {
		const session = await client.session();
		const table = `${client.prefix}_sav`;
		const insert = `insert into ${table} values ($1)`;
		await makeTable(session, table, 'n int primary key');
		await session.transaction(async (t) => {
			await t.query(insert, [1]);
			await fails('a second 1', '23505', () => t.savepoint((s) => s.query(insert, [1])));
			await t.savepoint((s) => s.query(insert, [2]));
		});
		same('rows', '1,2', await ask(session, `select string_agg(n::text, ',' order by n) from ${table}`));
		await session.run(`drop table ${table}`);
	},

	async copy(client) {
		const session = await client.session();
		const table = `${client.prefix}_cop`;
		await makeTable(session, table, 'n int, t text');
		const lines = Array.from({ length: 1000 }, (_, i) => `${i}\t${client.tag}\n`).join('');
		await session.copyIn(`copy ${table} from stdin`, lines);
		same('lines', lines, await session.copyOut(`copy (select * from ${table} order by n) to stdout`));
		await fails('bad data', '22P02', () => session.copyIn(`copy ${table} from stdin`, '1\tok\nbad\tno\n', true));
		await good(client);
		await session.run(`drop table ${table}`);
	},

	async cancel(client) {
		const session = await client.session();
		await fails('sleeping', '57014', () => session.transaction(async (t) => {
			same('before', 1, await ask(t, 'select $1::int', 1));
			await t.cancel();
		}));
		await good(client);
	},

	async reuse(client) {
		const session = await client.session();
		const text = `select $1::text || ':' || $2::int || '/${client.tag}'`;
		for (let i = 0; i < 100; i++) {
			const once = async (s) =>
				same('execution', `${client.tag}:${i}/${client.tag}`, await ask(s, text, client.tag, i));
			if (i % 5)
				await once(session);
			else
				await session.transaction((t) => once(t).then(() => once(t)));
		}
	},

	async ddl(client) {
		const session = await client.session();
		const table = `${client.prefix}_ddl`;
		const text = `select * from ${table} where id = $1`;
		const changes = {
			"add column t text default 'new'": [1, 5, 'new'],
			'alter column n type bigint': [1, '5', 'new'],
			'drop column t': [1, '5'],
		};
		/** The row, checked; or the error that PostgreSQL has when the table of a prepared statement has changed. */
		const row = async (s, when, expected) => {
			let rows;
			try {
				rows = await s.query(text, [1]);
			} catch (e) {
				if (e.code !== '0A000')
					throw e;
				return false;
			}
			same(when, [expected], rows);
			return true;
		};
		await makeTable(session, table, 'id int, n int');
		await session.run(`insert into ${table} values (1, 5)`);
		let expected = [1, 5];
		for (const [change, then] of Object.entries(changes)) {
			for (let i = 0; i < 6; i++)
				same('no error before', true, await row(session, `before ${change}`, expected));
			await client.other((other) => other.run(`alter table ${table} ${change}`));
			expected = then;
			if (client.number % 2 === 0)
				await afterChangeInTransaction(session, (t) => row(t, `in a transaction after ${change}`, expected));
			for (let i = 0; i < 3; i++)
				await row(session, `after ${change}`, expected);
			if (client.driver.forgets(client.mode))
				session.forget(text);
			same('no error when prepared anew', true, await row(session, `prepared anew after ${change}`, expected));
		}
		await session.run(`drop table ${table}`);
	},

	async deallocate(client) {
		if (client.driver.noClosing)
			throw new Skip(client.driver.noClosing);
	},

	async many(client) {
		const session = await client.session();
		for (let round = 0; round < 3; round++) {
			for (let i = 0; i < 200; i++)
				same(`round ${round}`, `${client.tag}:${i}`, await ask(session, `select $1::text || ':${i}'`, client.tag));
		}
	},

	async parameters(client) {
		const [zone, noon] = ZONES[client.number % ZONES.length];
		const text = "select current_setting('TimeZone'), current_setting('application_name'), "
			+ "'2026-01-15 12:00:00+00'::timestamptz::text, $1::text";
		await client.other(async (session) => {
			for (let i = 0; i < 30; i++) {
				const rows = await session.transaction((t) => t.query(text, [client.tag]));
				same('parameters', [[zone, client.tag, noon, client.tag]], rows);
			}
		}, zone);
	},

	async reconnect(client) {
		for (let i = 0; i < 10; i++) {
			await client.other(async (session) => {
				same('a new connection', client.tag, await ask(session, 'select $1::text', client.tag));
			});
		}
	},

	async pipeline(client) {
		if (!client.driver.pipelines.includes(client.mode))
			throw new Skip('one statement at a time in this mode');
		const session = await client.session();
		// Each statement has a Sync of its own, so the one that fails is alone, unless they are in a transaction.
		const send = (s, bad) => Promise.allSettled(Array.from({ length: 20 }, (_, i) =>
			ask(s, i === bad ? 'select $1::text || 1/($2::int - 10)' : `select $1::text || ':' || $2::int + ${i % 4}`,
				client.tag, i)));
		const answers = (bad, behind) => Array.from({ length: 20 }, (_, i) => {
			if (i === bad)
				return '22012';
			return i > bad && behind ? behind : `${client.tag}:${i + i % 4}`;
		});
		const got = (results) => results.map((r) => r.value ?? r.reason.code ?? String(r.reason));
		for (let round = 0; round < 5; round++) {
			same('answers', answers(99), got(await send(session, -1)));
			same('with one that fails', answers(10), got(await send(session, 10)));
			await good(client);
			const [first, second] = await Promise.all([send(session, -1), send(session, 10)]);
			same('the first of two', answers(99), got(first));
			same('the second of two', answers(10), got(second));
			await fails('a transaction with one that fails', ABORTED, () => session.transaction(async (t) => {
				same('inside', answers(10, '25P02'), got(await send(t, 10)));
				await ask(t, 'select $1::text', 'x');
			}));
		}
	},

	async tagged(client) {
		const session = await client.session();
		for (let i = 0; i < 200; i++) {
			const expected = `${client.tag}#${i}`;
			const once = async (s) => same('tag', expected, await ask(s, 'select $1::text', expected));
			if (i % 5)
				await once(session);
			else
				await session.transaction((t) => once(t).then(() => once(t)));
		}
	},
};

/** A transaction in which the statement may have failed, which is no news. */
async function afterChangeInTransaction(session, row) {
	let failed = false;
	try {
		await session.transaction(async (t) => {
			failed = !await row(t);
			if (failed)
				await t.query('select 1 where $1::int = 1', [1]);
		});
	} catch (e) {
		if (!failed || e.code !== '25P02')
			throw e;
	}
}

function readArguments() {
	const options = { mode: 'default', id: 'node', clients: 1, step: [] };
	const args = process.argv.slice(2);
	for (let i = 0; i + 1 < args.length; i += 2) {
		const name = args[i].replace(/^--/, '');
		if (name === 'step')
			options.step.push(args[i + 1]);
		else
			options[name] = args[i + 1];
	}
	return options;
}

async function runStep(name, clients) {
	const results = await Promise.allSettled(clients.map((client) => steps[name](client)));
	const failed = results.map((r, i) => [r.reason, i]).filter(([e]) => e && !(e instanceof Skip));
	const skipped = results.find((r) => r.reason instanceof Skip);
	if (failed.length) {
		const [e, number] = failed[0];
		const text = e instanceof Mismatch ? e.message : `expected no error, got ${e.code ?? ''} ${shorten(e.message ?? e)}`;
		const more = failed.length > 1 ? `, and ${failed.length - 1} more` : '';
		console.log(`FAIL ${name}: ${text} (client ${number}${more})`);
		if (!(e instanceof Mismatch))
			console.error(e);
		await Promise.all(failed.map(([, i]) => clients[i].drop()));
	} else {
		console.log(skipped ? `skip ${name}: ${skipped.reason.message}` : `ok ${name}`);
	}
	return failed.length === 0;
}

async function main(driver) {
	process.env.TZ = 'UTC';
	const options = readArguments();
	if (!driver.modes.includes(options.mode))
		throw new Error(`unknown mode ${options.mode}`);
	console.log(`version ${driver.version} node ${process.versions.node}`);
	const clients = Array.from({ length: Number(options.clients) }, (_, i) => new Client(driver, options.mode, options.id, i));
	let status = 0;
	for (const name of Object.keys(steps)) {
		if ((!options.step.length || options.step.includes(name)) && !await runStep(name, clients))
			status = 1;
	}
	await Promise.all(clients.map((client) => client.drop()));
	process.exit(status);
}

module.exports = { main };
