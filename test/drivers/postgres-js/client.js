'use strict';

// The common scenario with postgres.js (the package postgres).
//
// How it talks: a statement with values that is new is Parse, Describe and Flush; when the types of its parameters have
// come, Bind, Execute and Sync follow. It has a name then, and next time there is only Bind, Execute and Sync, and the
// rows are read by the columns that were described at first. An error whose routine says that the statement is stale
// makes it forget the name and try again. Without `prepare` all that is done each time, unnamed. Up to max_pipeline
// statements are sent ahead.

const postgres = require('postgres');
const { main } = require('../lib/scenario.js');

const MANY_CANCELS = 5;

/** Parts and values, as a template literal would give them. */
function template(text, values) {
	const numbers = [];
	const parts = text.split(/\$(\d+)/).filter((part, i) => i % 2 === 0 || !numbers.push(Number(part)));
	return [Object.assign(parts, { raw: parts }), ...numbers.map((n) => values[n - 1])];
}

class Session {
	constructor(sql, mode) {
		Object.assign(this, { sql, mode });
	}

	async query(text, values) {
		const run = () => this.sql(...template(text, values)).values();
		if (!this.mode.startsWith('pipeline'))
			return [...await run()].map((row) => [...row]);
		const marker = () => this.sql`select ${text}::text`.values();
		const [before, result, after] = await Promise.allSettled([marker(), run(), marker()]);
		if (result.status === 'rejected')
			throw result.reason;
		if (before.value?.[0][0] !== text || after.value?.[0][0] !== text)
			throw new Error(`a neighbour in the pipeline has ${before.value} and ${after.value}`);
		return [...result.value].map((row) => [...row]);
	}

	run(text) {
		return this.sql.unsafe(text);
	}

	transaction(work) {
		return this.sql.begin((sql) => work(new Session(sql, this.mode)));
	}

	savepoint(work) {
		return this.sql.savepoint((sql) => work(new Session(sql, this.mode)));
	}

	async fetch(text, values, size) {
		const all = [];
		await this.sql(...template(text, values)).values().cursor(size, (rows) => {
			all.push(...rows.map((row) => [...row]));
		});
		return all;
	}

	/** When an error comes after the end of the data has been said, the driver's stream never ends. */
	async copyIn(text, data, isBad) {
		const stream = await this.sql.unsafe(text).writable();
		await new Promise((resolve, reject) => {
			stream.on('error', reject);
			stream.on('finish', resolve);
			stream.write(data);
			if (!isBad)
				stream.end();
		});
	}

	async copyOut(text) {
		const chunks = [];
		for await (const chunk of await this.sql.unsafe(text).readable())
			chunks.push(chunk);
		return Buffer.concat(chunks).toString();
	}

	/** The driver asks once, and PostgreSQL ignores who asks before the statement is there: then again, with more time. */
	async cancel() {
		for (let i = 0; i < MANY_CANCELS; i++) {
			const sleeping = this.sql`select pg_sleep(${5})`.execute();
			const timer = setTimeout(() => sleeping.cancel(), 100 << i);
			await sleeping.finally(() => clearTimeout(timer));
		}
	}

	forget() {
		throw new Error('the driver forgets by itself');
	}

	close() {
		return this.sql.end();
	}
}

main({
	modes: ['default', 'unprepared', 'pipeline', 'pipeline-unprepared'],
	version: `postgres ${require('./package.json').dependencies.postgres}`,
	pipelines: ['pipeline', 'pipeline-unprepared'],
	noClosing: 'the driver never closes a statement',
	forgets: () => false,
	async connect(client, mode, timeZone) {
		const connection = { application_name: client.tag };
		if (timeZone)
			connection.TimeZone = timeZone;
		const sql = postgres({
			max: 1,
			prepare: !mode.endsWith('unprepared'),
			max_pipeline: mode.startsWith('pipeline') ? 100 : 1,
			onnotice: () => {},
			connection,
		});
		return new Session(sql, mode);
	},
});
