// The common scenario with lib/pq, through database/sql.
//
// How lib/pq talks: a statement with arguments is Parse and Describe of the unnamed statement and a Sync, and then, a
// round trip later, Bind, Execute and a Sync: another transaction, for who pools them. With binary_parameters all goes
// at once. Statements that were prepared explicitly are named "1", "2" and so on, and are closed by name. What has no
// arguments is a simple query. DateStyle and extra_float_digits are in each startup packet.
package main

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"strings"
	"time"

	"harness"

	"github.com/lib/pq"
)

const manyCancels = 5

var (
	ctx     = context.Background()
	options *harness.Options
	version string // of the package, set by the linker
)

// session is one connection; the statements by their text in mode prepared.
type session struct {
	db         *sql.DB
	conn       *sql.Conn
	statements map[string]*sql.Stmt
}

func main() {
	options = harness.Parse("default", "prepared", "binary")
	fmt.Println("version lib/pq", version, runtime.Version())
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
		{Name: "pipeline", Step: func(c *harness.Client) { harness.Skip("the driver has none") }},
		{Name: "tagged", Step: tagged},
	}, func(c *harness.Client) { c.State.(*session).close() })
}

// Connections

func connect(c *harness.Client, parameters string) *session {
	dsn := "application_name=" + c.Tag + " " + parameters
	if options.Mode == "binary" {
		dsn += " binary_parameters=yes"
	}
	db, err := sql.Open("postgres", dsn)
	harness.Must(err)
	conn, err := db.Conn(ctx)
	if err != nil {
		db.Close()
		panic(err)
	}
	return &session{db: db, conn: conn, statements: map[string]*sql.Stmt{}}
}

func (s *session) close() {
	s.conn.Close()
	s.db.Close()
}

// own is the client's connection.
func own(c *harness.Client) *session {
	if c.State == nil {
		c.State = connect(c, "")
	}
	return c.State.(*session)
}

// prepared is the statement of this text, which is prepared when it is used for the first time.
func (s *session) prepared(text string) (*sql.Stmt, error) {
	st := s.statements[text]
	if st != nil {
		return st, nil
	}
	st, err := s.conn.PrepareContext(ctx, text)
	if err == nil {
		s.statements[text] = st
	}
	return st, err
}

// forget closes the statement of this text.
func (s *session) forget(text string) {
	if st := s.statements[text]; st != nil {
		harness.Must(st.Close())
		delete(s.statements, text)
	}
}

// query runs a statement, in tx unless that is nil, in the way of this mode.
func (s *session) query(tx *sql.Tx, text string, args ...interface{}) (*sql.Rows, error) {
	switch {
	case options.Mode == "prepared":
		st, err := s.prepared(text)
		if err != nil {
			return nil, err
		}
		if tx != nil {
			st = tx.StmtContext(ctx, st)
		}
		return st.QueryContext(ctx, args...)
	case tx != nil:
		return tx.QueryContext(ctx, text, args...)
	}
	return s.conn.QueryContext(ctx, text, args...)
}

// ask scans the only row.
func (s *session) ask(tx *sql.Tx, target interface{}, text string, args ...interface{}) error {
	rows, err := s.query(tx, text, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	if !rows.Next() {
		if rows.Err() == nil {
			harness.Same("rows", 1, 0)
		}
		return rows.Err()
	}
	if err := rows.Scan(target); err != nil {
		return err
	}
	harness.Same("only one row", false, rows.Next())
	return rows.Err()
}

// expect compares the only value of a statement, a text.
func (s *session) expect(tx *sql.Tx, what, expected, text string, args ...interface{}) {
	var got string
	harness.Must(s.ask(tx, &got, text, args...))
	harness.Same(what, expected, got)
}

// fails is for a statement that must fail.
func (s *session) fails(tx *sql.Tx, what, state, text string, args ...interface{}) {
	var got interface{}
	harness.Fails(what, state, s.ask(tx, &got, text, args...))
}

func (s *session) execute(text string) {
	_, err := s.conn.ExecContext(ctx, text)
	harness.Must(err)
}

func (s *session) begin() *sql.Tx {
	tx, err := s.conn.BeginTx(ctx, nil)
	harness.Must(err)
	return tx
}

func (s *session) makeTable(name, columns string) {
	s.execute("drop table if exists " + name)
	s.execute("create table " + name + " (" + columns + ")")
}

// good is a statement after a failure.
func good(c *harness.Client) {
	own(c).expect(nil, "a good statement", c.Tag, "select $1::text", c.Tag)
}

// Values

func (s *session) echo(typ string, value, target interface{}, got func() interface{}) {
	for i := 0; i < 3; i++ {
		harness.Must(s.ask(nil, target, "select $1::"+typ, value))
		harness.Same(typ, value, got())
	}
}

func types(c *harness.Client) {
	s := own(c)
	for _, value := range []int64{0, -1, 1<<31 - 1, -1 << 31} {
		var got int64
		s.echo("int4", value, &got, func() interface{} { return got })
	}
	for _, value := range []int64{1<<63 - 2, -1<<63 + 1} {
		var got int64
		s.echo("int8", value, &got, func() interface{} { return got })
	}
	var f8 float64
	s.echo("float8", 0.1, &f8, func() interface{} { return f8 })
	texts := map[string]string{
		"text":    "d\u00e9j\u00e0 vu \u4e16\u754c \U0001F600 '\"\\",
		"numeric": "-12345678901234567890.0123456789",
		"json":    "{\"a\": [1, null, \"\u00e9\"]}",
		"uuid":    "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
	}
	for typ, value := range texts {
		var got string
		s.echo(typ, value, &got, func() interface{} { return got })
	}
	var data []byte
	s.echo("bytea", harness.AllBytes(256), &data, func() interface{} { return data })
	var yes bool
	s.echo("bool", true, &yes, func() interface{} { return yes })
	var moment time.Time
	s.echo("date", time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC), &moment, func() interface{} { return moment.UTC() })
	s.echo("timestamptz", time.Date(2026, 11, 21, 15, 16, 17, 123456000, time.UTC), &moment,
		func() interface{} { return moment.UTC() })
	var ints pq.Int64Array
	s.echo("int4[]", pq.Int64Array{1, -2, 3}, &ints, func() interface{} { return ints })
	var words pq.StringArray
	s.echo("text[]", pq.StringArray{"a,b", "", "\"{}\\"}, &words, func() interface{} { return words })
}

func nulls(c *harness.Client) {
	s := own(c)
	for _, typ := range []string{"int4", "text", "bytea", "timestamptz", "int4[]"} {
		var got interface{} = "nothing yet"
		harness.Must(s.ask(nil, &got, "select $1::"+typ, nil))
		harness.Same(typ, nil, got)
	}
	var empty sql.NullString
	harness.Must(s.ask(nil, &empty, "select $1::text", ""))
	harness.Same("an empty text is not NULL", sql.NullString{Valid: true}, empty)
	ints := pq.Int64Array{7}
	harness.Must(s.ask(nil, &ints, "select $1::int4[]", pq.Int64Array{}))
	harness.Same("an empty array is not NULL", pq.Int64Array{}, ints)
	var a, b, d sql.NullString
	row := s.conn.QueryRowContext(ctx, "select null::text, null::int, 'x', null::bytea where $1::int = 1", 1)
	harness.Must(row.Scan(&a, &b, new(string), &d))
	harness.Same("a row of NULLs", false, a.Valid || b.Valid || d.Valid)
}

func large(c *harness.Client) {
	s := own(c)
	text := strings.Repeat("0123456789abcde"+string(rune('A'+c.Number%26)), harness.Large/16)
	data := harness.AllBytes(harness.Large)
	for i := 0; i < 2; i++ {
		var gotText string
		var gotBytes []byte
		rows, err := s.query(nil, "select $1::text, $2::bytea", text, data)
		harness.Must(err)
		harness.Same("one row", true, rows.Next())
		harness.Must(rows.Scan(&gotText, &gotBytes))
		harness.Must(rows.Close())
		harness.Same("text", true, text == gotText)
		harness.Same("bytea", true, bytes.Equal(data, gotBytes))
	}
	s.expect(nil, "repeat", strings.Repeat("x", harness.Large), "select repeat('x', $1::int)", harness.Large)
}

// Errors and transactions

func failing(c *harness.Client) {
	s := own(c)
	for i := 0; i < 3; i++ {
		s.fails(nil, "division", "22012", "select 1/$1::int", 0)
		good(c)
		s.fails(nil, "no such table", "42P01", "select * from there_is_no_such_table where a = $1", 1)
		good(c)
		s.fails(nil, "syntax", "42601", "selec 1")
		good(c)
	}
}

func failingInTransaction(c *harness.Client) {
	s := own(c)
	table := c.Prefix + "_err"
	s.makeTable(table, "n int")
	tx := s.begin()
	s.expect(tx, "insert", "1", "insert into "+table+" values ($1) returning n", 1)
	s.fails(tx, "division", "22012", "select 1/$1::int", 0)
	s.fails(tx, "the next one", "25P02", "select 1 where $1::int = 1", 1)
	harness.Must(tx.Rollback())
	good(c)
	s.expect(nil, "rows", "0", "select count(*) from "+table)
	s.execute("drop table " + table)
}

func transaction(c *harness.Client) {
	s := own(c)
	table := c.Prefix + "_tra"
	s.makeTable(table, "n int")
	other := connect(c, "")
	defer other.close()
	for i := 1; i <= 5; i++ {
		n := fmt.Sprint(i)
		tx := s.begin()
		s.expect(tx, "insert", n, "insert into "+table+" values ($1) returning n", i)
		harness.Must(tx.Commit())
		other.expect(nil, "after COMMIT", n, "select count(*) from "+table)
		tx = s.begin()
		s.expect(tx, "insert", n, "insert into "+table+" values ($1) returning n", i)
		harness.Must(tx.Rollback())
		other.expect(nil, "after ROLLBACK", n, "select count(*) from "+table)
	}
	s.forget("insert into " + table + " values ($1) returning n")
	s.execute("drop table " + table)
}

func savepoint(c *harness.Client) {
	s := own(c)
	table := c.Prefix + "_sav"
	s.makeTable(table, "n int primary key")
	insert := "insert into " + table + " values ($1) returning n"
	tx := s.begin()
	run := func(text string) {
		_, err := tx.ExecContext(ctx, text)
		harness.Must(err)
	}
	s.expect(tx, "insert", "1", insert, 1)
	run("savepoint here")
	s.fails(tx, "a second 1", "23505", insert, 1)
	run("rollback to savepoint here")
	s.expect(tx, "insert", "2", insert, 2)
	run("release savepoint here")
	harness.Must(tx.Commit())
	s.expect(nil, "rows", "1,2", "select string_agg(n::text, ',' order by n) from "+table)
	s.forget(insert)
	s.execute("drop table " + table)
}

// copyIn sends rows; the error comes with the last Exec() or with one in the middle.
func copyIn(s *session, table string, rows [][]interface{}) error {
	tx := s.begin()
	defer tx.Rollback()
	st, err := tx.PrepareContext(ctx, pq.CopyIn(table, "n", "t"))
	harness.Must(err)
	defer st.Close()
	for _, row := range rows {
		if _, err := st.ExecContext(ctx, row...); err != nil {
			return err
		}
	}
	if _, err := st.ExecContext(ctx); err != nil {
		return err
	}
	harness.Must(st.Close())
	return tx.Commit()
}

func copying(c *harness.Client) {
	s := own(c)
	table := c.Prefix + "_cop"
	s.makeTable(table, "n int, t text")
	rows := make([][]interface{}, 1000)
	for i := range rows {
		rows[i] = []interface{}{i, c.Tag}
	}
	harness.Must(copyIn(s, table, rows))
	// The driver has no COPY TO, so the rows are selected.
	s.expect(nil, "rows", "1000 499500 "+c.Tag, "select count(*) || ' ' || sum(n) || ' ' || min(t) from "+table)
	harness.Fails("bad data", "22P02", copyIn(s, table, [][]interface{}{{1, "ok"}, {"bad", "no"}}))
	good(c)
	s.execute("drop table " + table)
}

// canceling gives its connection up each time: lib/pq trusts none that has been cancelled. The driver sends a single
// request, which PostgreSQL ignores when it comes before the statement, so there is another try with more time.
func canceling(c *harness.Client) {
	for i := 0; i < manyCancels; i++ {
		err := cancelOnce(c, 100*time.Millisecond<<i)
		if err != nil || i == manyCancels-1 {
			harness.Fails("sleeping", "57014", err)
			break
		}
	}
	good(c)
}

func cancelOnce(c *harness.Client, after time.Duration) error {
	s := connect(c, "")
	defer s.close()
	tx := s.begin()
	defer tx.Rollback()
	s.expect(tx, "before", "1", "select $1::text", "1")
	limited, cancel := context.WithTimeout(ctx, after)
	defer cancel()
	_, err := tx.ExecContext(limited, "select pg_sleep($1)", 5)
	return err
}

// Prepared statements

func reuse(c *harness.Client) {
	s := own(c)
	text := "select $1::text || ':' || $2::int"
	for i := 0; i < 100; i++ {
		expected := fmt.Sprintf("%s:%d", c.Tag, i)
		if i%5 != 0 {
			s.expect(nil, "execution", expected, text, c.Tag, i)
			continue
		}
		tx := s.begin()
		s.expect(tx, "execution in a transaction", expected, text, c.Tag, i)
		s.expect(tx, "and once more", expected, text, c.Tag, i)
		harness.Must(tx.Commit())
	}
}

// row reads the row of the step ddl. Or returns the error that PostgreSQL itself has when the table of a prepared
// statement has changed.
func (s *session) row(tx *sql.Tx, when, text string, columns []interface{}) error {
	rows, err := s.query(tx, text, 1)
	if err != nil && options.Mode == "prepared" {
		harness.Fails(when, "0A000", err)
		return err
	}
	harness.Must(err)
	defer rows.Close()
	harness.Same("a row "+when, true, rows.Next())
	names, err := rows.Columns()
	harness.Must(err)
	got, targets := make([]interface{}, len(names)), make([]interface{}, len(names))
	for i := range got {
		targets[i] = &got[i]
	}
	harness.Must(rows.Scan(targets...))
	harness.Same(when, columns, got)
	harness.Same("one row "+when, false, rows.Next())
	return rows.Err()
}

func ddl(c *harness.Client) {
	s := own(c)
	table := c.Prefix + "_ddl"
	text := "select * from " + table + " where id = $1"
	s.makeTable(table, "id int, n int")
	s.execute("insert into " + table + " values (1, 5)")
	columns := []interface{}{int64(1), int64(5)}
	for _, change := range harness.Changes {
		for i := 0; i < 6; i++ {
			harness.Must(s.row(nil, "before "+change.SQL, text, columns))
		}
		other := connect(c, "")
		_, err := other.conn.ExecContext(ctx, "alter table "+table+" "+change.SQL)
		other.close()
		harness.Must(err)
		columns = change.Columns
		if c.Number%2 == 0 {
			tx := s.begin()
			s.row(tx, "in a transaction after "+change.SQL, text, columns)
			harness.Must(tx.Rollback())
		}
		for i := 0; i < 3; i++ {
			s.row(nil, "after "+change.SQL, text, columns)
		}
		s.forget(text)
		harness.Must(s.row(nil, "prepared anew after "+change.SQL, text, columns))
	}
	s.forget(text)
	s.execute("drop table " + table)
}

func deallocate(c *harness.Client) {
	s := own(c)
	for round := 0; round < 3; round++ {
		for i := 0; i < 20; i++ {
			text := fmt.Sprintf("select $1::text || '/%d'", i)
			s.expect(nil, fmt.Sprintf("round %d", round), fmt.Sprintf("%s/%d", c.Tag, i), text, c.Tag)
			if i%4 != round {
				s.forget(text)
			}
		}
	}
	s.expect(nil, "the first again", c.Tag+"/0", "select $1::text || '/0'", c.Tag)
}

func many(c *harness.Client) {
	s := own(c)
	for round := 0; round < 3; round++ {
		for i := 0; i < 200; i++ {
			s.expect(nil, fmt.Sprintf("round %d", round), fmt.Sprintf("%s:%d", c.Tag, i),
				fmt.Sprintf("select $1::text || ':%d'", i), c.Tag)
		}
	}
}

// Sessions

func parameters(c *harness.Client) {
	zone := harness.Zones[c.Number%len(harness.Zones)]
	s := connect(c, "timezone="+zone[0])
	defer s.close()
	for i := 0; i < 30; i++ {
		tx := s.begin()
		s.expect(tx, "TimeZone", zone[0], "select current_setting('TimeZone')")
		s.expect(tx, "application_name", c.Tag, "select current_setting($1)", "application_name")
		s.expect(tx, "timestamp", zone[1], "select '2026-01-15 12:00:00+00'::timestamptz::text")
		harness.Must(tx.Commit())
	}
}

func reconnect(c *harness.Client) {
	for i := 0; i < 10; i++ {
		s := connect(c, "")
		s.expect(nil, "a new connection", c.Tag, "select $1::text", c.Tag)
		s.close()
	}
}

func tagged(c *harness.Client) {
	s := own(c)
	for i := 0; i < 200; i++ {
		expected := fmt.Sprintf("%s#%d", c.Tag, i)
		if i%5 != 0 {
			s.expect(nil, "tag", expected, "select $1::text", expected)
			continue
		}
		tx := s.begin()
		s.expect(tx, "tag", expected, "select $1::text", expected)
		s.expect(tx, "tag", expected, "select $1::text", expected)
		harness.Must(tx.Commit())
	}
}
