'use strict';

// The common scenario with node-postgres (the package pg).
//
// How it talks: a statement with values is Parse, Bind, Describe of the portal, Execute and Sync in one go, unnamed
// unless it was given a name, which is parsed once and never closed. In the mode pipeline, statements do not wait for
// the answer to the one in front of them, each with a Sync of its own.

const { pipeline } = require('stream/promises');
const { Readable } = require('stream');
const pg = require('pg');
const copyStreams = require('pg-copy-streams');
const Cursor = require('pg-cursor');
const { main } = require('../lib/scenario.js');

class Session {
	constructor(client, mode) {
		Object.assign(this, { client, mode, names: new Map(), given: 0, level: 0 });
	}

	/** The names are the same in all sessions, the texts behind them are not. */
	statement(text, values) {
		const query = { text, values, rowMode: 'array' };
		if (this.mode.endsWith('prepared')) {
			if (!this.names.has(text))
				this.names.set(text, `s${this.given++}`);
			query.name = this.names.get(text);
		}
		return query;
	}

	async query(text, values) {
		const run = () => this.client.query(this.statement(text, values));
		if (!this.client.pipeline)
			return (await run()).rows;
		const marker = () => this.client.query({ text: 'select $1::text', values: [text], rowMode: 'array' });
		const [before, result, after] = await Promise.allSettled([marker(), run(), marker()]);
		if (result.status === 'rejected')
			throw result.reason;
		if (before.value?.rows[0][0] !== text || after.value?.rows[0][0] !== text)
			throw new Error(`a neighbour in the pipeline has ${before.value?.rows} and ${after.value?.rows}`);
		return result.value.rows;
	}

	run(text) {
		return this.client.query(text);
	}

	async between(first, work, last, otherwise) {
		await this.run(first);
		try {
			const result = await work(this);
			await this.run(last);
			return result;
		} catch (e) {
			await this.run(otherwise);
			throw e;
		}
	}

	transaction(work) {
		return this.between('begin', work, 'commit', 'rollback');
	}

	savepoint(work) {
		return this.between('savepoint here', work, 'release savepoint here', 'rollback to savepoint here');
	}

	async fetch(text, values, size) {
		if (this.client.pipeline)
			return (await this.client.query({ text, values, rowMode: 'array' })).rows;
		const cursor = this.client.query(new Cursor(text, values, { rowMode: 'array' }));
		const all = [];
		for (;;) {
			const rows = await cursor.read(size);
			all.push(...rows);
			if (!rows.length)
				break;
		}
		await cursor.close();
		return all;
	}

	copyIn(text, data) {
		return this.streaming((client) => pipeline(Readable.from([data]), client.query(copyStreams.from(text))));
	}

	async copyOut(text) {
		const chunks = [];
		await this.streaming(async (client) => {
			for await (const chunk of client.query(copyStreams.to(text)))
				chunks.push(chunk);
		});
		return Buffer.concat(chunks).toString();
	}

	/** A connection that pipelines refuses streams; it has another one for them. */
	async streaming(work) {
		if (!this.client.pipeline)
			return work(this.client);
		const plain = await open(this.client.connectionParameters.application_name);
		try {
			return await work(plain);
		} finally {
			await plain.end();
		}
	}

	/** What Client.cancel() does, which wants a client of its own for each request. */
	sendCancel() {
		return new Promise((resolve, reject) => {
			const connection = new pg.Connection();
			connection.once('connect', () => connection.cancel(this.client.processID, this.client.secretKey));
			connection.once('error', reject);
			connection.once('end', resolve);
			connection.connect(Number(process.env.PGPORT), process.env.PGHOST);
		});
	}

	async cancel() {
		let ended = false;
		const sleeping = this.client.query('select pg_sleep($1)', [60]).finally(() => { ended = true; });
		const canceling = (async () => {
			while (!ended) {
				await this.sendCancel();
				await Promise.race([sleeping.catch(() => {}), new Promise((resolve) => setTimeout(resolve, 200))]);
			}
		})();
		const [result, requests] = await Promise.allSettled([sleeping, canceling]);
		if (requests.reason || result.reason)
			throw requests.reason ?? result.reason;
	}

	forget(text) {
		this.names.delete(text);
	}

	close() {
		return this.client.end();
	}
}

async function open(name, more) {
	const client = new pg.Client({ application_name: name, ...more });
	client.on('error', (e) => console.error(`connection: ${e.message}`));
	await client.connect();
	return client;
}

main({
	modes: ['default', 'prepared', 'pipeline', 'pipeline-prepared'],
	version: `pg ${require('pg/package.json').version}`,
	pipelines: ['pipeline', 'pipeline-prepared'],
	noClosing: 'the driver never closes a statement',
	forgets: (mode) => mode.endsWith('prepared'),
	async connect(client, mode, timeZone) {
		const options = timeZone && `-c TimeZone=${timeZone}`;
		return new Session(await open(client.tag, { pipeline: mode.startsWith('pipeline'), options }), mode);
	},
});
