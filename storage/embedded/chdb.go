package embedded

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
)

// libchdb holds the functions of the library's C API (chdb.h of chdb-core 26.5) that are used here. Handles are opaque
// pointers owned by the library; results are freed with destroyResult.
type libchdb struct {
	connect        func(argc int32, argv unsafe.Pointer) unsafe.Pointer
	close          func(conn unsafe.Pointer)
	query          paramsFunc
	stream         paramsFunc
	fetch          func(conn, stream uintptr) uintptr
	cancelStream   func(conn, stream uintptr)
	destroyResult  func(result uintptr)
	resultBuffer   func(result uintptr) unsafe.Pointer
	resultLength   func(result uintptr) uintptr
	resultError    func(result uintptr) string
	rowsWritten    func(result uintptr) uint64
	signalHandlers func(enabled int32)
}

// paramsFunc is the shape of chdb_query_with_params_n and chdb_stream_query_with_params_n.
type paramsFunc func(conn uintptr, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr,
	names, nameLens, values, valueLens unsafe.Pointer, count uintptr) uintptr

var (
	loadMu sync.Mutex
	loaded = map[string]*libchdb{}
)

// load opens the library at path once per process: it can not be unloaded, its threads live on.
func load(path string) (lib *libchdb, err error) {
	loadMu.Lock()
	defer loadMu.Unlock()
	if lib := loaded[path]; lib != nil {
		return lib, nil
	}
	if len(loaded) > 0 {
		return nil, fmt.Errorf("another libchdb.so is already loaded: %v", loaded)
	}
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("load %s: %s", path, firstLine(err.Error()))
	}
	lib = new(libchdb)
	for _, f := range []struct {
		fn   any
		name string
	}{
		{&lib.connect, "chdb_connect"},
		{&lib.close, "chdb_close_conn"},
		{&lib.query, "chdb_query_with_params_n"},
		{&lib.stream, "chdb_stream_query_with_params_n"},
		{&lib.fetch, "chdb_stream_fetch_result"},
		{&lib.cancelStream, "chdb_stream_cancel_query"},
		{&lib.destroyResult, "chdb_destroy_query_result"},
		{&lib.resultBuffer, "chdb_result_buffer"},
		{&lib.resultLength, "chdb_result_length"},
		{&lib.resultError, "chdb_result_error"},
		{&lib.rowsWritten, "chdb_result_rows_written"},
		{&lib.signalHandlers, "chdb_set_signal_handlers_enabled"},
	} {
		symbol, err := purego.Dlsym(handle, f.name)
		if err != nil {
			return nil, fmt.Errorf("%s has no function %s: version %s or later is needed", path, f.name, Version)
		}
		purego.RegisterFunc(f.fn, symbol)
	}
	loaded[path] = lib
	return lib, nil
}

// cParams lays out query parameters as the arrays that the C API takes.
type cParams struct {
	names, values       []unsafe.Pointer
	nameLens, valueLens []uintptr
	pin                 runtime.Pinner
}

func newParams(params map[string]string) *cParams {
	p := new(cParams)
	for name, value := range params {
		p.names = append(p.names, p.bytes(name))
		p.nameLens = append(p.nameLens, uintptr(len(name)))
		p.values = append(p.values, p.bytes(value))
		p.valueLens = append(p.valueLens, uintptr(len(value)))
	}
	return p
}

// bytes returns a pinned pointer to s. An empty string has none in Go and needs one in C.
func (p *cParams) bytes(s string) unsafe.Pointer {
	if s == "" {
		s = "\x00"
	}
	b := unsafe.StringData(s)
	p.pin.Pin(b)
	return unsafe.Pointer(b)
}

// call runs fn with sql, the Native output format and p.
func (p *cParams) call(fn paramsFunc, conn uintptr, sql string) uintptr {
	defer p.pin.Unpin()
	const format = "Native"
	var names, nameLens, values, valueLens unsafe.Pointer
	if len(p.names) > 0 {
		names, nameLens = unsafe.Pointer(&p.names[0]), unsafe.Pointer(&p.nameLens[0])
		values, valueLens = unsafe.Pointer(&p.values[0]), unsafe.Pointer(&p.valueLens[0])
	}
	r := fn(conn, p.bytes(sql), uintptr(len(sql)), p.bytes(format), uintptr(len(format)),
		names, nameLens, values, valueLens, uintptr(len(p.names)))
	runtime.KeepAlive(p)
	return r
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
