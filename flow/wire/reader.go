package wire

import "encoding/binary"

// reader takes values off the front of buf. After the first failure bad is set and everything reads as zero. An absent
// reader is that of a column that was left out: all zeros, without end.
type reader struct {
	buf    []byte
	bad    bool
	absent bool
}

func (r *reader) fail() {
	r.bad, r.buf = true, nil
}

func (r *reader) uvarint() uint64 {
	if r.absent {
		return 0
	}
	v, n := binary.Uvarint(r.buf)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.buf = r.buf[n:]
	return v
}

func (r *reader) varint() int64 { return unzigzag(r.uvarint()) }

// limited reads a number that must not be larger than limit.
func (r *reader) limited(limit uint64) uint64 {
	v := r.uvarint()
	if v > limit {
		r.fail()
		return 0
	}
	return v
}

// count reads the number of entries that follow.
func (r *reader) count(limit int) int { return int(r.limited(uint64(limit))) }

func (r *reader) byte() byte {
	if r.absent {
		return 0
	}
	if len(r.buf) == 0 {
		r.fail()
		return 0
	}
	b := r.buf[0]
	r.buf = r.buf[1:]
	return b
}

// bytes returns the next n bytes without copying them.
func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.buf)) {
		r.fail()
		return nil
	}
	b := r.buf[:n]
	r.buf = r.buf[n:]
	return b
}

func (r *reader) string() string { return string(r.bytes(r.uvarint())) }

// stringReader is a reader over a string: what it returns shares s.
type stringReader struct {
	s   string
	bad bool
}

func (r *stringReader) fail() {
	r.bad, r.s = true, ""
}

func (r *stringReader) byte() byte {
	if r.s == "" {
		r.fail()
		return 0
	}
	b := r.s[0]
	r.s = r.s[1:]
	return b
}

func (r *stringReader) uvarint() uint64 {
	var v uint64
	for shift := uint(0); shift < 64; shift += 7 {
		b := r.byte()
		if r.bad || shift == 63 && b > 1 {
			break
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	r.fail()
	return 0
}

func (r *stringReader) limited(limit uint64) uint64 {
	v := r.uvarint()
	if v > limit {
		r.fail()
		return 0
	}
	return v
}

func (r *stringReader) string() string {
	n := r.uvarint()
	if n > uint64(len(r.s)) {
		r.fail()
		return ""
	}
	s := r.s[:n]
	r.s = r.s[n:]
	return s
}

// done reports whether everything was read, and nothing beyond.
func (r *stringReader) done() bool { return !r.bad && r.s == "" }

// Bounds of one intern table. Beyond them it starts anew: values in use stay good, equal ones are no longer the same.
const (
	maxInternEntries = 1 << 16
	maxInternBytes   = 16 << 20
)

// intern maps encoded bytes to the value that was made of them.
type intern[T any] struct {
	values map[string]T
	bytes  int
}

func newIntern[T any]() intern[T] { return intern[T]{values: make(map[string]T)} }

func (t *intern[T]) get(key []byte) (T, bool) {
	v, ok := t.values[string(key)]
	return v, ok
}

func (t *intern[T]) put(key string, v T) {
	if len(t.values) >= maxInternEntries || t.bytes+len(key) > maxInternBytes {
		clear(t.values)
		t.bytes = 0
	}
	t.values[key] = v
	t.bytes += len(key)
}
