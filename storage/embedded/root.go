// Package embedded runs the ClickHouse engine inside the process: libchdb.so, loaded without cgo.
//
// The engine is one per process and so is Engine: a second Open fails until the first was closed. Queries run side by side
// on a small pool of connections; a call that finds none free waits. Data is written by the engine before Insert returns,
// so a killed process loses nothing that Insert acknowledged.
package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/ClickHouse/ch-go/proto"
	"golang.org/x/sys/unix"
)

// connections is how many queries run at once.
const connections = 4

// Config says where the engine keeps its data and what it may use.
type Config struct {
	Dir       string // data directory, made if missing
	Library   string // path of libchdb.so
	MaxMemory int64  // bytes for all queries and caches together; 0: 2 GiB
}

// Engine is a running ClickHouse engine.
type Engine struct {
	lib    *libchdb
	lock   *os.File
	conns  []unsafe.Pointer // what chdb_connect returned
	free   chan uintptr     // connection handles that are not in use
	done   chan struct{}
	closer sync.Once
}

// running is true while an Engine is open: the library keeps one engine for all connections of a process.
var running struct {
	sync.Mutex
	dir string
}

// Open starts the engine on c.Dir. Errors are one line and name the directory or the library.
func Open(ctx context.Context, c Config) (*Engine, error) {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", c.Dir, err)
	}
	running.Lock()
	defer running.Unlock()
	if running.dir != "" {
		return nil, fmt.Errorf("the embedded engine already runs in this process on %s", running.dir)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	e := &Engine{lock: lock, done: make(chan struct{}), free: make(chan uintptr, connections)}
	if err := e.start(dir, c); err != nil {
		e.release()
		return nil, err
	}
	running.dir = dir
	if err := e.Exec(ctx, "SELECT 1", nil); err != nil {
		e.release()
		running.dir = ""
		return nil, fmt.Errorf("start the engine on %s: %w", dir, err)
	}
	return e, nil
}

func (e *Engine) start(dir string, c Config) (err error) {
	config, err := writeConfig(dir, c.MaxMemory)
	if err != nil {
		return err
	}
	defer keepSignals()()
	if e.lib, err = load(c.Library); err != nil {
		return err
	}
	e.lib.signalHandlers(0)
	for range connections {
		conn := e.lib.open("parallax", "--path="+dir, "--config-file="+config)
		if conn == nil {
			return fmt.Errorf("the engine does not start on %s: the directory may be damaged or of a newer version", dir)
		}
		e.conns = append(e.conns, conn)
		e.free <- *(*uintptr)(conn)
	}
	return nil
}

// Close waits for running queries, flushes and stops the engine. Calls after it fail.
func (e *Engine) Close() error {
	e.closer.Do(func() {
		close(e.done)
		for range e.conns {
			<-e.free
		}
		running.Lock()
		defer running.Unlock()
		e.release()
		running.dir = ""
	})
	return nil
}

func (e *Engine) release() {
	defer keepSignals()()
	for _, c := range e.conns {
		e.lib.close(c)
	}
	e.conns = nil
	e.lock.Close()
}

// errClosed is what a call on a closed engine gives.
var errClosed = errors.New("the embedded engine is closed")

// acquire takes a connection. The caller gives it back with a send on e.free.
func (e *Engine) acquire(ctx context.Context) (uintptr, error) {
	select {
	case <-e.done:
		return 0, errClosed
	default:
	}
	select {
	case c := <-e.free:
		return c, nil
	case <-e.done:
		return 0, errClosed
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Exec runs a statement without a result.
func (e *Engine) Exec(ctx context.Context, sql string, params map[string]string) error {
	conn, err := e.acquire(ctx)
	if err != nil {
		return err
	}
	defer func() { e.free <- conn }()
	result := newParams(params).call(e.lib.query, conn, sql)
	defer e.lib.destroyResult(result)
	return e.error(result)
}

// Select runs a query and calls block after each block of rows was decoded into columns, which it overwrites. A query
// can not be stopped before its first block: bound it by the max_execution_time setting.
func (e *Engine) Select(ctx context.Context, sql string, params map[string]string, columns proto.Result, block func() error) error {
	conn, err := e.acquire(ctx)
	if err != nil {
		return err
	}
	defer func() { e.free <- conn }()
	stream := newParams(params).call(e.lib.stream, conn, sql)
	defer e.lib.destroyResult(stream)
	if err := e.error(stream); err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			e.lib.cancelStream(conn, stream)
			return err
		}
		more, err := e.chunk(e.lib.fetch(conn, stream), columns, block)
		if err != nil {
			e.lib.cancelStream(conn, stream)
			return err
		}
		if !more {
			return nil
		}
	}
}

// chunk decodes one piece of a streamed result and frees it. An empty piece is the last one.
func (e *Engine) chunk(result uintptr, columns proto.Result, block func() error) (more bool, err error) {
	defer e.lib.destroyResult(result)
	if err := e.error(result); err != nil {
		return false, err
	}
	length := e.lib.resultLength(result)
	if length == 0 {
		return false, nil
	}
	r := proto.NewReader(bytes.NewReader(unsafe.Slice((*byte)(e.lib.resultBuffer(result)), length)))
	for {
		var b proto.Block
		if err := b.DecodeRawBlock(r, 0, columns); errors.Is(err, io.EOF) {
			return true, nil
		} else if err != nil {
			return false, fmt.Errorf("decode a result block: %w", err)
		}
		if b.Rows == 0 {
			continue
		}
		if err := block(); err != nil {
			return false, err
		}
	}
}

// Insert writes one block of rows to table. settings is a list for a SETTINGS clause, or empty.
//
// The block goes through an anonymous file: the library cuts data that is part of the statement near 1 MB.
func (e *Engine) Insert(ctx context.Context, table, settings string, input proto.Input) error {
	if len(input) == 0 || input[0].Data.Rows() == 0 {
		return nil
	}
	var buf proto.Buffer
	block := proto.Block{Columns: len(input), Rows: input[0].Data.Rows()}
	if err := block.EncodeRawBlock(&buf, 0, input); err != nil {
		return fmt.Errorf("encode rows for %s: %w", table, err)
	}
	fd, err := unix.MemfdCreate("parallax-insert", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("memfd_create: %w", err)
	}
	file := os.NewFile(uintptr(fd), "parallax-insert")
	defer file.Close()
	if _, err := file.Write(buf.Buf); err != nil {
		return fmt.Errorf("write rows for %s: %w", table, err)
	}
	var sql strings.Builder
	fmt.Fprintf(&sql, "INSERT INTO %s %s FROM INFILE '/proc/self/fd/%d'", table, input.Columns(), fd)
	if settings != "" {
		sql.WriteString(" SETTINGS " + settings)
	}
	sql.WriteString(" FORMAT Native")
	return e.Exec(ctx, sql.String(), nil)
}

func (e *Engine) error(result uintptr) error {
	if result == 0 {
		return errors.New("the embedded engine gave no result")
	}
	if s := e.lib.resultError(result); s != "" {
		return errors.New(firstLine(s))
	}
	return nil
}

// open calls chdb_connect.
func (l *libchdb) open(args ...string) unsafe.Pointer {
	var pin runtime.Pinner
	defer pin.Unpin()
	argv := make([]*byte, len(args))
	for i, a := range args {
		argv[i] = unsafe.SliceData(append([]byte(a), 0))
		pin.Pin(argv[i])
	}
	conn := l.connect(int32(len(args)), unsafe.Pointer(unsafe.SliceData(argv)))
	runtime.KeepAlive(argv)
	return conn
}

// keepSignals notes the process's signal handlers and returns a func that puts them back: the library resets those of
// SIGSEGV, SIGBUS, SIGFPE and others, which the Go runtime needs (a nil dereference would kill the process instead of
// being a panic).
func keepSignals() (restore func()) {
	const last = 64
	var saved [last + 1][64]byte // struct sigaction of the kernel, 32 bytes and opaque here
	sigaction := func(sig int, act, old unsafe.Pointer) {
		unix.Syscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(act), uintptr(old), 8, 0, 0)
	}
	for sig := 1; sig <= last; sig++ {
		sigaction(sig, nil, unsafe.Pointer(&saved[sig]))
	}
	return func() {
		for sig := 1; sig <= last; sig++ {
			var now [64]byte
			if sigaction(sig, nil, unsafe.Pointer(&now)); !slices.Equal(now[:], saved[sig][:]) {
				sigaction(sig, unsafe.Pointer(&saved[sig]), nil)
			}
		}
	}
}

// lockDir makes dir, checks that it can be written, and holds it for this process.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "parallax.lock"), os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, fmt.Errorf("data directory can not be written: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		owner, _ := io.ReadAll(io.LimitReader(f, 32))
		f.Close()
		return nil, fmt.Errorf("data directory %s is in use by process %s: stop it or choose another directory",
			dir, bytes.TrimSpace(owner))
	}
	if err := errors.Join(f.Truncate(0), writePID(f)); err != nil {
		f.Close()
		return nil, fmt.Errorf("data directory can not be written: %w", err)
	}
	return f, nil
}

func writePID(f *os.File) error {
	_, err := fmt.Fprintf(f, "%d\n", os.Getpid())
	return err
}
