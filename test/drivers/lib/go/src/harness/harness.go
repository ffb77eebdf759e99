// Package harness is what the Go programs of test/drivers share: arguments, concurrent clients, one line per step.
//
// A client is a goroutine per step; the next step begins when all clients have ended this one. What is not as expected
// panics, which ends the step for this client. It then closes its connection and opens another when it needs one, so
// that one failure does not spoil the rest.
package harness

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"
)

// Large is the size of a large value in bytes.
const Large = 1 << 20

// Zones are time zones, and noon of a winter's day there.
var Zones = [][2]string{
	{"UTC", "2026-01-15 12:00:00+00"},
	{"Europe/Zurich", "2026-01-15 13:00:00+01"},
	{"America/New_York", "2026-01-15 07:00:00-05"},
	{"Asia/Tokyo", "2026-01-15 21:00:00+09"},
	{"Asia/Kolkata", "2026-01-15 17:30:00+05:30"},
}

// Changes are what step ddl does to its table (id int, n int) with the row (1, 5), and the columns it has afterwards.
var Changes = []struct {
	SQL     string
	Columns []interface{}
}{
	{"add column t text default 'new'", []interface{}{int64(1), int64(5), "new"}},
	{"alter column n type bigint", []interface{}{int64(1), int64(5), "new"}},
	{"drop column t", []interface{}{int64(1), int64(5)}},
}

// Client is one of the concurrent clients.
type Client struct {
	Number int
	Tag    string
	Prefix string      // the beginning of the names of its tables
	State  interface{} // the program's own; nil at first and after Close
	Close  func(c *Client)
}

// Step is what a client does in a step.
type Step func(c *Client)

// Options are the arguments of the program.
type Options struct {
	Mode    string
	ID      string
	Clients int
	only    []string
}

type names []string

func (n *names) String() string { return strings.Join(*n, " ") }
func (n *names) Set(s string) error {
	*n = append(*n, s)
	return nil
}

// Parse reads the arguments of the program; the mode must be one of modes.
func Parse(modes ...string) *Options {
	o := &Options{}
	flag.StringVar(&o.Mode, "mode", "default", strings.Join(modes, ", "))
	flag.StringVar(&o.ID, "id", "go", "unique among all runs")
	flag.IntVar(&o.Clients, "clients", 1, "how many at once")
	flag.Var((*names)(&o.only), "step", "only this one")
	flag.Parse()
	for _, mode := range modes {
		if mode == o.Mode {
			return o
		}
	}
	fmt.Fprintf(os.Stderr, "unknown mode %s\n", o.Mode)
	os.Exit(2)
	return nil
}

// Named is a step with its name.
type Named struct {
	Name string
	Step Step
}

// Run runs the steps with all clients and ends the program; close ends what a client has in State.
func (o *Options) Run(steps []Named, close func(c *Client)) {
	clients := make([]*Client, o.Clients)
	for i := range clients {
		clients[i] = &Client{Number: i, Tag: fmt.Sprintf("%s-%d", o.ID, i), Prefix: fmt.Sprintf("%s_%d", o.ID, i), Close: close}
	}
	status := 0
	for _, step := range steps {
		if o.wants(step.Name) && !runStep(step, clients) {
			status = 1
		}
	}
	for _, c := range clients {
		c.drop()
	}
	os.Exit(status)
}

func (o *Options) wants(name string) bool {
	for _, n := range o.only {
		if n == name {
			return true
		}
	}
	return len(o.only) == 0
}

func (c *Client) drop() {
	if c.State != nil {
		c.Close(c)
	}
	c.State = nil
}

func runStep(step Named, clients []*Client) bool {
	errs := make([]error, len(clients))
	ended := make(chan bool)
	for i := range clients {
		go func(i int) {
			errs[i] = attempt(step.Step, clients[i])
			ended <- true
		}(i)
	}
	for range clients {
		<-ended
	}
	failures, failure, skipped := 0, "", ""
	for i, err := range errs {
		var skip skipError
		if errors.As(err, &skip) {
			skipped = err.Error()
		} else if err != nil {
			if failures == 0 {
				failure = fmt.Sprintf("%s (client %d", describe(err), i)
			}
			failures++
			clients[i].drop()
		}
	}
	if failures > 1 {
		failure += fmt.Sprintf(", and %d more", failures-1)
	}
	switch {
	case failures > 0:
		fmt.Printf("FAIL %s: %s)\n", step.Name, failure)
	case skipped != "":
		fmt.Printf("skip %s: %s\n", step.Name, skipped)
	default:
		fmt.Printf("ok %s\n", step.Name)
	}
	return failures == 0
}

func attempt(step Step, c *Client) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			isError := false
			if err, isError = reason.(error); !isError {
				panic(reason)
			}
		}
	}()
	step(c)
	return nil
}

type mismatch struct{ text string }

func (m mismatch) Error() string { return m.text }

type skipError struct{ why string }

func (s skipError) Error() string { return s.why }

// Skip ends a step that cannot be done.
func Skip(why string) { panic(skipError{why}) }

// Must ends the step if there is an error.
func Must(err error) {
	if err != nil {
		panic(err)
	}
}

func describe(err error) string {
	var m mismatch
	if errors.As(err, &m) {
		return shorten(err.Error())
	}
	return "expected no error, got " + shorten(err.Error())
}

func shorten(s string) string {
	s = strings.ReplaceAll(s, "\n", " ")
	if len(s) > 300 {
		s = fmt.Sprintf("%s... (%d bytes)", s[:300], len(s))
	}
	return s
}

// Same ends the step unless both are equal.
func Same(what string, expected, got interface{}) {
	if !reflect.DeepEqual(expected, got) {
		panic(mismatch{fmt.Sprintf("expected %s, got %s [%s]", show(expected), show(got), what)})
	}
}

func show(v interface{}) string {
	return shorten(fmt.Sprintf("%#v", v))
}

// State is the SQLSTATE of an error, "" if it has none; the errors of both drivers know theirs.
func State(err error) string {
	var e interface{ SQLState() string }
	if errors.As(err, &e) {
		return e.SQLState()
	}
	return ""
}

// Fails ends the step unless the error has this SQLSTATE.
func Fails(what, state string, err error) {
	if err == nil {
		panic(mismatch{fmt.Sprintf("expected %s, got no error [%s]", state, what)})
	}
	if State(err) != state {
		panic(mismatch{fmt.Sprintf("expected %s, got %v [%s]", state, err, what)})
	}
}

// AllBytes has each value of a byte, again and again.
func AllBytes(length int) []byte {
	b := make([]byte, length)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// CancelUntil calls cancel at once and every 200 ms until run has ended; returns run's error. The clock is for the
// server, which ignores a request that arrives before the statement does.
func CancelUntil(cancel func() error, run func() error) error {
	ended, stopped := make(chan bool), make(chan error, 1)
	go func() {
		for {
			if err := cancel(); err != nil {
				stopped <- err
				return
			}
			select {
			case <-ended:
				stopped <- nil
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
	err := run()
	close(ended)
	if failed := <-stopped; failed != nil {
		return fmt.Errorf("the cancel request: %w", failed)
	}
	return err
}
