// The common scenario with pgx 4.
//
// How pgx talks: every text that has arguments is prepared under a name (lrupsc_<n>_<m>) by a round trip of its own,
// and kept in a cache; one that is pushed out is deallocated by SQL. Results come in binary, in as many formats as the
// description of the columns had that came with Parse and is kept. A Batch is a pipeline with one Sync.
package main

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"harness"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgconn/stmtcache"
	"github.com/jackc/pgx/v4"
)

const (
	usualCache = 512 // statements
	smallCache = 5
)

var (
	ctx     = context.Background()
	options *harness.Options
	version string // of the package, set by the linker
)

func main() {
	options = harness.Parse("default", "describe", "unnamed", "simple", "pipeline")
	fmt.Println("version pgx", version, runtime.Version())
	options.Run([]harness.Named{
		{Name: "types", Step: types},
		{Name: "nulls", Step: nulls},
		{Name: "large", Step: large},
		{Name: "error", Step: failing},
		{Name: "error_in_transaction", Step: failingInTransaction},
		{Name: "transaction", Step: transaction},
		{Name: "savepoint", Step: savepoint},
		{Name: "copy", Step: copying},
		{Name: "cancel", Step: canceling},
		{Name: "reuse", Step: reuse},
		{Name: "ddl", Step: ddl},
		{Name: "deallocate", Step: deallocate},
		{Name: "many", Step: many},
		{Name: "parameters", Step: parameters},
		{Name: "reconnect", Step: reconnect},
		{Name: "pipeline", Step: pipeline},
		{Name: "tagged", Step: tagged},
	}, func(c *harness.Client) { c.State.(*pgx.Conn).Close(ctx) })
}

// Connections

// connect opens a connection in this mode, with a cache of so many statements where the mode has one.
func connect(c *harness.Client, capacity int, parameters ...string) *pgx.Conn {
	config, err := pgx.ParseConfig("")
	harness.Must(err)
	config.RuntimeParams["application_name"] = c.Tag
	for i := 0; i < len(parameters); i += 2 {
		config.RuntimeParams[parameters[i]] = parameters[i+1]
	}
	mode := stmtcache.ModePrepare
	if options.Mode == "describe" {
		mode = stmtcache.ModeDescribe
	}
	config.PreferSimpleProtocol = options.Mode == "simple"
	config.BuildStatementCache = func(conn *pgconn.PgConn) stmtcache.Cache {
		return stmtcache.New(conn, mode, capacity)
	}
	if options.Mode == "unnamed" {
		config.BuildStatementCache = nil
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	harness.Must(err)
	return conn
}

// connection is the client's own one.
func connection(c *harness.Client) *pgx.Conn {
	if c.State == nil {
		c.State = connect(c, usualCache)
	}
	return c.State.(*pgx.Conn)
}

// querier is a connection or a transaction.
type querier interface {
	Exec(ctx context.Context, sql string, args ...interface{}) (pgconn.CommandTag, error)
	QueryRow(ctx context.Context, sql string, args ...interface{}) pgx.Row
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// ask scans the only row of a statement; in the mode pipeline another statement is in the same batch.
func ask(q querier, target interface{}, sql string, args ...interface{}) error {
	if options.Mode != "pipeline" {
		return q.QueryRow(ctx, sql, args...).Scan(target)
	}
	batch := &pgx.Batch{}
	batch.Queue(sql, args...)
	batch.Queue("select $1::int", int32(len(sql)))
	results := q.SendBatch(ctx, batch)
	defer results.Close()
	if err := results.QueryRow().Scan(target); err != nil {
		return err
	}
	var marker int
	harness.Must(results.QueryRow().Scan(&marker))
	harness.Same("the statement behind it", len(sql), marker)
	return results.Close()
}

// expect compares the only value of a statement, a text.
func expect(q querier, what, expected, sql string, args ...interface{}) {
	var got string
	harness.Must(ask(q, &got, sql, args...))
	harness.Same(what, expected, got)
}

// fails is for a statement that must fail.
func fails(q querier, what, state, sql string, args ...interface{}) {
	var got interface{}
	harness.Fails(what, state, ask(q, &got, sql, args...))
}

func execute(q querier, sql string, args ...interface{}) {
	_, err := q.Exec(ctx, sql, args...)
	harness.Must(err)
}

// good is a statement after a failure.
func good(c *harness.Client) {
	expect(connection(c), "a good statement", c.Tag, "select $1::text", c.Tag)
}

func begin(conn *pgx.Conn) pgx.Tx {
	tx, err := conn.Begin(ctx)
	harness.Must(err)
	return tx
}

func makeTable(conn *pgx.Conn, name, columns string) {
	execute(conn, "drop table if exists "+name)
	execute(conn, "create table "+name+" ("+columns+")")
}

// Values

// echo sends a value, and receives it into something of the same type; target is where.
func echo(conn *pgx.Conn, typ string, value, target interface{}, got func() interface{}) {
	for i := 0; i < 3; i++ {
		harness.Must(ask(conn, target, "select cast($1 as "+typ+")", value))
		harness.Same(typ, value, got())
	}
}

func types(c *harness.Client) {
	conn := connection(c)
	for _, value := range []int32{0, -1, 1<<31 - 1, -1 << 31} {
		var got int32
		echo(conn, "int4", value, &got, func() interface{} { return got })
	}
	for _, value := range []int64{1<<63 - 2, -1<<63 + 1} {
		var got int64
		echo(conn, "int8", value, &got, func() interface{} { return got })
	}
	var f8 float64
	echo(conn, "float8", 0.1, &f8, func() interface{} { return f8 })
	var text string
	echo(conn, "text", "d\u00e9j\u00e0 vu \u4e16\u754c \U0001F600 '\"\\", &text, func() interface{} { return text })
	number := "-12345678901234567890.0123456789"
	expect(conn, "numeric", number, "select $1::numeric::text", number)
	var bytes []byte
	echo(conn, "bytea", harness.AllBytes(256), &bytes, func() interface{} { return bytes })
	var yes bool
	echo(conn, "bool", true, &yes, func() interface{} { return yes })
	var moment time.Time
	echo(conn, "date", time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC), &moment, func() interface{} { return moment })
	echo(conn, "timestamptz", time.Date(2026, 11, 21, 15, 16, 17, 123456000, time.UTC), &moment,
		func() interface{} { return moment.UTC() })
	var ints []int32
	echo(conn, "int4[]", []int32{1, -2, 3}, &ints, func() interface{} { return ints })
	var texts []string
	echo(conn, "text[]", []string{"a,b", "", "\"{}\\"}, &texts, func() interface{} { return texts })
	object := "{\"a\": [1, null, \"\u00e9\"]}"
	expect(conn, "json", object, "select cast($1 as json)::text", object)
	uuid := "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
	expect(conn, "uuid", uuid, "select $1::uuid::text", uuid)
}

func nulls(c *harness.Client) {
	conn := connection(c)
	for _, typ := range []string{"int4", "text", "bytea", "timestamptz", "int4[]"} {
		var got interface{} = "nothing yet"
		harness.Must(ask(conn, &got, "select $1::"+typ, nil))
		harness.Same(typ, nil, got)
	}
	var empty *string
	harness.Must(ask(conn, &empty, "select $1::text", ""))
	harness.Same("an empty text is not NULL", true, empty != nil && *empty == "")
	ints := []int32{7}
	harness.Must(ask(conn, &ints, "select $1::int4[]", []int32{}))
	harness.Same("an empty array is not NULL", []int32{}, ints)
	var a, b, d *string
	harness.Must(conn.QueryRow(ctx, "select null::text, null::int::text, 'x', null::bytea::text").Scan(&a, &b, new(string), &d))
	harness.Same("a row of NULLs", true, a == nil && b == nil && d == nil)
}

func large(c *harness.Client) {
	conn := connection(c)
	text := strings.Repeat("0123456789abcde"+string(rune('A'+c.Number%26)), harness.Large/16)
	data := harness.AllBytes(harness.Large)
	for i := 0; i < 2; i++ {
		var gotText string
		var gotBytes []byte
		harness.Must(conn.QueryRow(ctx, "select $1::text, $2::bytea", text, data).Scan(&gotText, &gotBytes))
		harness.Same("text", true, text == gotText)
		harness.Same("bytea", true, bytes.Equal(data, gotBytes))
	}
	expect(conn, "repeat", strings.Repeat("x", harness.Large), "select repeat('x', $1::int)", harness.Large)
}

// Errors and transactions

func failing(c *harness.Client) {
	conn := connection(c)
	for i := 0; i < 3; i++ {
		fails(conn, "division", "22012", "select 1/$1::int", 0)
		good(c)
		fails(conn, "no such table", "42P01", "select * from there_is_no_such_table where a = $1", 1)
		good(c)
		fails(conn, "syntax", "42601", "selec 1")
		good(c)
	}
}

func failingInTransaction(c *harness.Client) {
	conn := connection(c)
	table := c.Prefix + "_err"
	makeTable(conn, table, "n int")
	tx := begin(conn)
	execute(tx, "insert into "+table+" values ($1)", 1)
	fails(tx, "division", "22012", "select 1/$1::int", 0)
	fails(tx, "the next one", "25P02", "select $1::text", "x")
	harness.Must(tx.Rollback(ctx))
	good(c)
	expect(conn, "rows", "0", "select count(*)::text from "+table)
	execute(conn, "drop table "+table)
}

func transaction(c *harness.Client) {
	conn := connection(c)
	table := c.Prefix + "_tra"
	makeTable(conn, table, "n int")
	other := connect(c, usualCache)
	defer other.Close(ctx)
	for i := 1; i <= 5; i++ {
		tx := begin(conn)
		execute(tx, "insert into "+table+" values ($1)", i)
		harness.Must(tx.Commit(ctx))
		expect(other, "after COMMIT", fmt.Sprint(i), "select count(*)::text from "+table)
		tx = begin(conn)
		execute(tx, "insert into "+table+" values ($1)", -i)
		harness.Must(tx.Rollback(ctx))
		expect(other, "after ROLLBACK", fmt.Sprint(i), "select count(*)::text from "+table)
	}
	execute(conn, "drop table "+table)
}

func savepoint(c *harness.Client) {
	conn := connection(c)
	table := c.Prefix + "_sav"
	makeTable(conn, table, "n int primary key")
	tx := begin(conn)
	execute(tx, "insert into "+table+" values ($1)", 1)
	inner, err := tx.Begin(ctx)
	harness.Must(err)
	_, err = inner.Exec(ctx, "insert into "+table+" values ($1)", 1)
	harness.Fails("a second 1", "23505", err)
	harness.Must(inner.Rollback(ctx))
	inner, err = tx.Begin(ctx)
	harness.Must(err)
	execute(inner, "insert into "+table+" values ($1)", 2)
	harness.Must(inner.Commit(ctx))
	harness.Must(tx.Commit(ctx))
	expect(conn, "rows", "1,2", "select string_agg(n::text, ',' order by n) from "+table)
	execute(conn, "drop table "+table)
}

func copying(c *harness.Client) {
	conn := connection(c)
	table := c.Prefix + "_cop"
	makeTable(conn, table, "n int, t text")
	var lines strings.Builder
	rows := make([][]interface{}, 1000)
	for i := range rows {
		rows[i] = []interface{}{i, c.Tag}
		fmt.Fprintf(&lines, "%d\t%s\n", i, c.Tag)
	}
	n, err := conn.CopyFrom(ctx, pgx.Identifier{table}, []string{"n", "t"}, pgx.CopyFromRows(rows))
	harness.Must(err)
	harness.Same("rows in, binary", int64(1000), n)
	var out bytes.Buffer
	_, err = conn.PgConn().CopyTo(ctx, &out, "copy (select * from "+table+" order by n) to stdout")
	harness.Must(err)
	harness.Same("lines", lines.String(), out.String())
	execute(conn, "truncate "+table)
	tag, err := conn.PgConn().CopyFrom(ctx, strings.NewReader(lines.String()), "copy "+table+" from stdin")
	harness.Must(err)
	harness.Same("rows in, text", int64(1000), tag.RowsAffected())
	_, err = conn.PgConn().CopyFrom(ctx, strings.NewReader("1\tok\nbad\tno\n"), "copy "+table+" from stdin")
	harness.Fails("bad data", "22P02", err)
	good(c)
	execute(conn, "drop table "+table)
}

func canceling(c *harness.Client) {
	conn := connection(c)
	tx := begin(conn)
	expect(tx, "before", "1", "select $1::text", "1")
	err := harness.CancelUntil(func() error { return conn.PgConn().CancelRequest(ctx) }, func() error {
		_, err := tx.Exec(ctx, "select pg_sleep($1)", 60)
		return err
	})
	harness.Fails("sleeping", "57014", err)
	harness.Must(tx.Rollback(ctx))
	good(c)
}

// Prepared statements

func reuse(c *harness.Client) {
	conn := connection(c)
	sql := "select $1::text || ':' || $2::int"
	if options.Mode == "default" || options.Mode == "pipeline" {
		_, err := conn.Prepare(ctx, "mine", sql)
		harness.Must(err)
		sql = "mine"
	}
	for i := 0; i < 100; i++ {
		expected := fmt.Sprintf("%s:%d", c.Tag, i)
		if i%5 != 0 {
			expect(conn, "execution", expected, sql, c.Tag, i)
			continue
		}
		tx := begin(conn)
		expect(tx, "execution in a transaction", expected, sql, c.Tag, i)
		expect(tx, "and once more", expected, sql, c.Tag, i)
		harness.Must(tx.Commit(ctx))
	}
	if sql == "mine" {
		harness.Must(conn.Deallocate(ctx, sql))
	}
}

// row reads the row of the step ddl. Or returns the error that PostgreSQL itself has in this mode when the table has
// changed: none where nothing is kept; where descriptions are kept, that they have not as many columns.
func row(q querier, when, table string, columns []interface{}) error {
	// QueryRow() leaves the error of the statement to Scan(), so this says more: all columns in an array.
	rows, err := q.(interface {
		Query(ctx context.Context, sql string, args ...interface{}) (pgx.Rows, error)
	}).Query(ctx, "select * from "+table+" where id = $1", 1)
	harness.Must(err)
	defer rows.Close()
	if rows.Next() {
		values, err := rows.Values()
		harness.Must(err)
		for i, value := range values {
			if n, isInt := value.(int32); isInt {
				values[i] = int64(n)
			}
		}
		harness.Same(when, columns, values)
		harness.Same("one row "+when, false, rows.Next())
	}
	rows.Close()
	err = rows.Err()
	switch options.Mode {
	case "default", "pipeline":
		if err != nil {
			harness.Fails(when, "0A000", err)
		}
	case "describe":
		if err != nil {
			harness.Fails(when, "08P01", err)
		}
	default:
		harness.Must(err)
	}
	return err
}

func ddl(c *harness.Client) {
	conn := connection(c)
	table := c.Prefix + "_ddl"
	makeTable(conn, table, "id int, n int")
	execute(conn, "insert into "+table+" values (1, 5)")
	columns := []interface{}{int64(1), int64(5)}
	for _, change := range harness.Changes {
		for i := 0; i < 6; i++ {
			harness.Must(row(conn, "before "+change.SQL, table, columns))
		}
		alter(c, table, change.SQL)
		columns = change.Columns
		if c.Number%2 == 0 {
			tx := begin(conn)
			row(tx, "in a transaction after "+change.SQL, table, columns)
			harness.Must(tx.Rollback(ctx))
		}
		for i := 0; i < 3; i++ {
			row(conn, "after "+change.SQL, table, columns)
		}
		if options.Mode == "describe" {
			harness.Must(conn.StatementCache().Clear(ctx))
		}
		harness.Must(row(conn, "prepared anew after "+change.SQL, table, columns))
	}
	execute(conn, "drop table "+table)
}

func alter(c *harness.Client, table, change string) {
	other := connect(c, usualCache)
	defer other.Close(ctx)
	execute(other, "alter table "+table+" "+change)
}

func deallocate(c *harness.Client) {
	conn := connect(c, smallCache)
	defer conn.Close(ctx)
	for round := 0; round < 3; round++ {
		for i := 0; i < 4*smallCache; i++ {
			expect(conn, fmt.Sprintf("round %d", round), fmt.Sprintf("%s/%d", c.Tag, i),
				fmt.Sprintf("select $1::text || '/%d'", i), c.Tag)
		}
	}
	expect(conn, "the first again", c.Tag+"/0", "select $1::text || '/0'", c.Tag)
	if options.Mode == "describe" {
		return // pgx takes the name for a text then
	}
	for i := 0; i < 3; i++ {
		_, err := conn.Prepare(ctx, "named", fmt.Sprintf("select $1::text || '+%d'", i))
		harness.Must(err)
		expect(conn, "a name used again", fmt.Sprintf("%s+%d", c.Tag, i), "named", c.Tag)
		harness.Must(conn.Deallocate(ctx, "named"))
	}
}

func many(c *harness.Client) {
	conn := connection(c)
	for round := 0; round < 3; round++ {
		for i := 0; i < 200; i++ {
			expect(conn, fmt.Sprintf("round %d", round), fmt.Sprintf("%s:%d", c.Tag, i),
				fmt.Sprintf("select $1::text || ':%d'", i), c.Tag)
		}
	}
}

// Sessions

func parameters(c *harness.Client) {
	zone := harness.Zones[c.Number%len(harness.Zones)]
	conn := connect(c, usualCache, "timezone", zone[0])
	defer conn.Close(ctx)
	for i := 0; i < 30; i++ {
		tx := begin(conn)
		expect(tx, "TimeZone", zone[0], "select current_setting('TimeZone')")
		expect(tx, "application_name", c.Tag, "select current_setting('application_name')")
		expect(tx, "timestamp", zone[1], "select '2026-01-15 12:00:00+00'::timestamptz::text")
		harness.Must(tx.Commit(ctx))
	}
}

func reconnect(c *harness.Client) {
	for i := 0; i < 10; i++ {
		conn := connect(c, usualCache)
		expect(conn, "a new connection", c.Tag, "select $1::text", c.Tag)
		harness.Must(conn.Close(ctx))
	}
}

// batchOf queues 20 statements of few texts; number bad fails.
func batchOf(c *harness.Client, bad int) *pgx.Batch {
	batch := &pgx.Batch{}
	for i := 0; i < 20; i++ {
		sql := fmt.Sprintf("select $1::text || ':' || $2::int + %d", i%4)
		if i == bad {
			sql = "select $1::text || 1/($2::int - 10)"
		}
		batch.Queue(sql, c.Tag, i)
	}
	return batch
}

// answers reads what a batch brings, up to the one that fails.
func answers(c *harness.Client, results pgx.BatchResults, bad int) {
	defer results.Close()
	for i := 0; i < 20; i++ {
		var got string
		err := results.QueryRow().Scan(&got)
		if i == bad {
			harness.Fails("the one in the middle", "22012", err)
			return
		}
		harness.Must(err)
		harness.Same("statement in a batch", fmt.Sprintf("%s:%d", c.Tag, i+i%4), got)
	}
	harness.Must(results.Close())
}

func pipeline(c *harness.Client) {
	conn := connection(c)
	for round := 0; round < 5; round++ {
		answers(c, conn.SendBatch(ctx, batchOf(c, -1)), -1)
		answers(c, conn.SendBatch(ctx, batchOf(c, 10)), 10)
		good(c)
		tx := begin(conn)
		answers(c, tx.SendBatch(ctx, batchOf(c, -1)), -1)
		answers(c, tx.SendBatch(ctx, batchOf(c, -1)), -1)
		harness.Must(tx.Commit(ctx))
	}
}

func tagged(c *harness.Client) {
	conn := connection(c)
	for i := 0; i < 200; i++ {
		expected := fmt.Sprintf("%s#%d", c.Tag, i)
		if i%5 != 0 {
			expect(conn, "tag", expected, "select $1::text", expected)
			continue
		}
		tx := begin(conn)
		expect(tx, "tag", expected, "select $1::text", expected)
		expect(tx, "tag", expected, "select $1::text", expected)
		harness.Must(tx.Commit(ctx))
	}
}
