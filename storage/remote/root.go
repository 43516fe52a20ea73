// Package remote talks to a ClickHouse server over its native protocol. It keeps a few connections and makes them anew
// after an error; which queries to repeat is the caller's decision.
package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
)

// connections is how many queries run at once.
const connections = 8

// Config says which server to use.
type Config struct {
	Addresses      []string // host:port, tried in this order
	Database       string   // made if missing
	User, Password string
	TLS            *tls.Config   // nil: none
	Compression    bool          // LZ4 on the wire
	DialTimeout    time.Duration // for each address; 0: 5 s
}

// Engine is a client of a server.
type Engine struct {
	config Config
	slots  chan *ch.Client // one entry for each connection that may be open; nil: none is
	done   chan struct{}
}

// Open connects and makes the database. The error is one line and names the addresses.
func Open(ctx context.Context, c Config) (*Engine, error) {
	if c.DialTimeout == 0 {
		c.DialTimeout = 5 * time.Second
	}
	e := &Engine{config: c, slots: make(chan *ch.Client, connections), done: make(chan struct{})}
	for range connections {
		e.slots <- nil
	}
	if err := e.createDatabase(ctx); err != nil {
		return nil, err
	}
	if err := e.Exec(ctx, "SELECT 1", nil); err != nil {
		return nil, err
	}
	return e, nil
}

// createDatabase uses a connection of its own, to the database that always is there: a connection to one that is missing is refused.
func (e *Engine) createDatabase(ctx context.Context) error {
	client, err := e.dial(ctx, "default")
	if err != nil {
		return err
	}
	defer client.Close()
	name := "`" + strings.NewReplacer("\\", "\\\\", "`", "\\`").Replace(e.config.Database) + "`"
	if err := client.Do(ctx, ch.Query{Body: "CREATE DATABASE IF NOT EXISTS " + name}); err != nil {
		return fmt.Errorf("create database %s: %w", e.config.Database, oneLine(err))
	}
	return nil
}

func (e *Engine) dial(ctx context.Context, database string) (*ch.Client, error) {
	var errs []string
	for _, address := range e.config.Addresses {
		o := ch.Options{
			Address: address, Database: database, User: e.config.User, Password: e.config.Password, TLS: e.config.TLS,
			DialTimeout: e.config.DialTimeout, HandshakeTimeout: e.config.DialTimeout, ReadTimeout: time.Minute, ClientName: "parallax",
		}
		if e.config.Compression {
			o.Compression = ch.CompressionLZ4
		}
		client, err := ch.Dial(ctx, o)
		if err == nil {
			return client, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		errs = append(errs, fmt.Sprintf("%s: %v", address, oneLine(err)))
	}
	return nil, fmt.Errorf("ClickHouse does not answer at %s", strings.Join(errs, "; "))
}

// Close waits for running queries and closes the connections.
func (e *Engine) Close() error {
	select {
	case <-e.done:
		return nil
	default:
	}
	close(e.done)
	for range connections {
		if client := <-e.slots; client != nil {
			client.Close()
		}
	}
	return nil
}

var errClosed = errors.New("the ClickHouse client is closed")

// do runs q on a free connection. A connection that an error may have left in the middle of an answer is closed.
func (e *Engine) do(ctx context.Context, q ch.Query) error {
	select {
	case <-e.done:
		return errClosed
	default:
	}
	var client *ch.Client
	select {
	case client = <-e.slots:
	case <-e.done:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { e.slots <- client }()
	if client != nil && client.Ping(ctx) != nil { // the server closes idle connections and restarts
		client.Close()
		client = nil
	}
	if client == nil {
		var err error
		if client, err = e.dial(ctx, e.config.Database); err != nil {
			client = nil
			return err
		}
	}
	err := client.Do(ctx, q)
	if err == nil {
		return nil
	}
	var refused *ch.Exception
	if !errors.As(err, &refused) || client.IsClosed() {
		client.Close()
		client = nil
	}
	return err
}

// Exec runs a statement without a result.
func (e *Engine) Exec(ctx context.Context, sql string, params map[string]string) error {
	var discard proto.Results
	return oneLine(e.do(ctx, ch.Query{Body: sql, Parameters: parameters(params), Result: discard.Auto(),
		OnResult: func(context.Context, proto.Block) error { return nil }}))
}

// Select calls block after each block of rows was decoded into columns, which it overwrites.
func (e *Engine) Select(ctx context.Context, sql string, params map[string]string, columns proto.Result, block func() error) error {
	var stopped error
	err := e.do(ctx, ch.Query{
		Body: sql, Parameters: parameters(params), Result: columns,
		OnResult: func(_ context.Context, b proto.Block) error {
			if b.Rows > 0 {
				stopped = block()
			}
			return stopped
		},
	})
	if stopped != nil {
		return stopped
	}
	return oneLine(err)
}

// Insert writes one block of rows to table. settings is a list for a SETTINGS clause, or empty.
func (e *Engine) Insert(ctx context.Context, table, settings string, input proto.Input) error {
	if len(input) == 0 || input[0].Data.Rows() == 0 {
		return nil
	}
	body := "INSERT INTO " + table + " " + input.Columns()
	if settings != "" {
		body += " SETTINGS " + settings
	}
	return oneLine(e.do(ctx, ch.Query{Body: body + " VALUES", Input: input}))
}

// parameters quotes values: on the wire a parameter is a quoted string, whose content is read once more by its type.
func parameters(params map[string]string) []proto.Parameter {
	out := make([]proto.Parameter, 0, len(params))
	for k, v := range params {
		out = append(out, proto.Parameter{Key: k, Value: "'" + strings.NewReplacer("\\", "\\\\", "'", "\\'").Replace(v) + "'"})
	}
	return out
}

// oneLine cuts err to its first line. The server's errors can hold a stack trace.
func oneLine(err error) error {
	if err == nil {
		return nil
	}
	var netErr net.Error
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &netErr) {
		return err
	}
	first, _, more := strings.Cut(err.Error(), "\n")
	if !more {
		return err
	}
	return errors.New(first)
}
