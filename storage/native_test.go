package storage

// A test double of a ClickHouse server: it speaks the native TCP protocol (revision 54460: compression, parameters, exceptions) and
// lets the embedded engine answer. What it can not show is how a server differs from that engine: users, clusters, its settings.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/ClickHouse/ch-go/proto"

	"github.com/parallax-flow/parallax/storage/embedded"
)

const revision = 54460

// serveNative serves an engine on dir until the test ends and returns the address.
func serveNative(t *testing.T, dir string) string {
	t.Helper()
	library, err := embedded.Library("")
	if err != nil {
		t.Fatal(err)
	}
	engine, err := embedded.Open(t.Context(), embedded.Config{Dir: dir, Library: library})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var sessions sync.WaitGroup
	sessions.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			sessions.Go(func() {
				defer conn.Close()
				s := &session{engine: engine, conn: conn, reader: proto.NewReader(conn)}
				if err := s.run(); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) &&
					!errors.Is(err, syscall.ECONNRESET) { // a client that cancels closes with a result unread
					t.Errorf("native protocol: %v", err)
				}
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		sessions.Wait()
		engine.Close()
	})
	return listener.Addr().String()
}

// session is one connection of a client.
type session struct {
	engine  *embedded.Engine
	conn    net.Conn
	reader  *proto.Reader
	version int
}

func (s *session) run() error {
	if err := s.hello(); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	for {
		code, err := s.reader.UVarInt()
		if err != nil {
			return err
		}
		switch proto.ClientCode(code) {
		case proto.ClientCodePing:
			err = s.send(func(b *proto.Buffer) { proto.ServerCodePong.Encode(b) })
		case proto.ClientCodeQuery:
			err = s.query()
		case proto.ClientCodeCancel, proto.ClientCodeHello: // ch-go 0.74 cancels with a zero byte ahead, and closes
			return io.EOF
		default:
			err = fmt.Errorf("packet %d", code)
		}
		if err != nil {
			return err
		}
	}
}

func (s *session) hello() error {
	if code, err := s.reader.UVarInt(); err != nil || proto.ClientCode(code) != proto.ClientCodeHello {
		return fmt.Errorf("packet %d: %w", code, err)
	}
	var hello proto.ClientHello
	if err := hello.Decode(s.reader); err != nil {
		return err
	}
	s.version = min(hello.ProtocolVersion, revision)
	if err := s.send(func(b *proto.Buffer) {
		server := proto.ServerHello{Name: "ClickHouse", Major: 26, Minor: 5, Revision: revision, Timezone: "UTC", DisplayName: "double", Patch: 1}
		server.EncodeAware(b, s.version)
	}); err != nil {
		return err
	}
	_, err := s.reader.Str() // addendum: quota key
	return err
}

func (s *session) send(write func(*proto.Buffer)) error {
	var b proto.Buffer
	write(&b)
	_, err := s.conn.Write(b.Buf)
	return err
}

// query answers one query. The client gets a server's error as an exception and goes on.
func (s *session) query() error {
	var q proto.Query
	if err := q.DecodeAware(s.reader, s.version); err != nil {
		return fmt.Errorf("query: %w", err)
	}
	compressed := q.Compression == proto.CompressionEnabled
	if _, err := s.block(compressed); err != nil { // external tables: none
		return err
	}
	params := make(map[string]string)
	for _, p := range q.Parameters {
		quoted := strings.TrimSuffix(strings.TrimPrefix(p.Value, "'"), "'")
		params[p.Key] = strings.NewReplacer(`\\`, `\`, `\'`, `'`).Replace(quoted)
	}
	var err error
	switch verb, rest, _ := strings.Cut(q.Body, " "); {
	case strings.HasSuffix(q.Body, " VALUES"):
		err = s.insert(rest, compressed)
	case verb == "SELECT":
		err = s.selects(q.Body, params, compressed)
	case strings.HasPrefix(q.Body, "CREATE DATABASE"): // the engine has one
	default:
		err = s.engine.Exec(context.Background(), q.Body, params)
	}
	if err != nil {
		return s.send(func(b *proto.Buffer) {
			proto.ServerCodeException.Encode(b)
			e := proto.Exception{Code: 1000, Name: "DB::Exception", Message: err.Error()}
			e.EncodeAware(b, s.version)
		})
	}
	return s.send(func(b *proto.Buffer) { proto.ServerCodeEndOfStream.Encode(b) })
}

func (s *session) selects(sql string, params map[string]string, compressed bool) error {
	var columns proto.Results
	return s.engine.Select(context.Background(), sql, params, columns.Auto(), func() error {
		input := make(proto.Input, len(columns))
		for i, c := range columns {
			input[i] = proto.InputColumn{Name: c.Name, Data: c.Data.(proto.Column)}
		}
		return s.sendBlock(input, compressed)
	})
}

func (s *session) sendBlock(input proto.Input, compressed bool) error {
	var body proto.Buffer
	block := proto.Block{Info: proto.BlockInfo{BucketNum: -1}, Columns: len(input), Rows: input[0].Data.Rows()}
	if err := block.EncodeBlock(&body, s.version, input); err != nil {
		return err
	}
	if compressed {
		w := compress.NewWriter(compress.LevelZero, compress.LZ4)
		if err := w.Compress(body.Buf); err != nil {
			return err
		}
		body.Buf = w.Data
	}
	return s.send(func(b *proto.Buffer) {
		proto.ServerCodeData.Encode(b)
		b.PutString("")
		b.Buf = append(b.Buf, body.Buf...)
	})
}

// block reads a data packet and its block.
func (s *session) block(compressed bool) (proto.Results, error) {
	if code, err := s.reader.UVarInt(); err != nil || proto.ClientCode(code) != proto.ClientCodeData {
		return nil, fmt.Errorf("packet %d in the place of data: %w", code, err)
	}
	return s.blockBody(compressed)
}

func (s *session) blockBody(compressed bool) (proto.Results, error) {
	var data proto.ClientData
	if err := data.DecodeAware(s.reader, s.version); err != nil {
		return nil, err
	}
	if compressed {
		s.reader.EnableCompression()
		defer s.reader.DisableCompression()
	}
	var columns proto.Results
	var b proto.Block
	if err := b.DecodeBlock(s.reader, s.version, columns.Auto()); err != nil {
		return nil, fmt.Errorf("block: %w", err)
	}
	return columns, nil
}

// insert runs "INTO table (columns) SETTINGS ... VALUES": it tells the types, then takes blocks until an empty one.
func (s *session) insert(statement string, compressed bool) error {
	table, _, _ := strings.Cut(strings.TrimPrefix(statement, "INTO "), " ")
	_, settings, _ := strings.Cut(strings.TrimSuffix(statement, " VALUES"), " SETTINGS ")
	var name, typ proto.ColStr
	types := make(map[string]string)
	const describe = "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = {table:String}"
	columns := proto.Results{{Data: &name}, {Data: &typ}}
	if err := s.engine.Select(context.Background(), describe, map[string]string{"table": table}, columns, func() error {
		for i := range name.Rows() {
			types[name.Row(i)] = typ.Row(i)
		}
		return nil
	}); err != nil {
		return err
	}
	list := statement[strings.Index(statement, "(")+1 : strings.Index(statement, ")")]
	var header proto.Input
	for column := range strings.SplitSeq(list, ",") {
		column = strings.Trim(column, "\" ")
		data := new(proto.ColAuto)
		if err := data.Infer(proto.ColumnType(types[column])); err != nil {
			return err
		}
		header = append(header, proto.InputColumn{Name: column, Data: data.Data})
	}
	if err := s.sendBlock(header, compressed); err != nil {
		return err
	}
	for {
		columns, err := s.block(compressed)
		if err != nil {
			return err
		}
		if columns.Rows() == 0 {
			return nil
		}
		input := make(proto.Input, len(columns))
		for i, c := range columns {
			input[i] = proto.InputColumn{Name: c.Name, Data: c.Data.(proto.Column)}
		}
		if err := s.engine.Insert(context.Background(), table, settings, input); err != nil {
			return err
		}
	}
}
