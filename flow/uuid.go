package flow

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// UUID identifies f among all records of all nodes: a version 8 UUID (RFC 9562 section 5.8) that holds the boot and the
// sequence number of the node that made it. It is empty as long as f has no node or sequence number.
func (f *Flow) UUID() string {
	if f.Node == nil || f.Seq == 0 {
		return ""
	}
	boot, seq := f.Node.Boot, f.Seq
	var b [16]byte
	// 48 bits of boot, version, 12 bits of boot; variant, 4 bits of boot, 58 bits of sequence.
	binary.BigEndian.PutUint64(b[:8], boot&^0xffff|8<<12|boot>>4&0xfff)
	binary.BigEndian.PutUint64(b[8:], 2<<62|boot&0xf<<58|seq&(1<<58-1))
	var s [36]byte
	hex.Encode(s[:8], b[:4])
	hex.Encode(s[9:13], b[4:6])
	hex.Encode(s[14:18], b[6:8])
	hex.Encode(s[19:23], b[8:10])
	hex.Encode(s[24:], b[10:])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:])
}

// ParseUUID returns what Flow.UUID put into s: the boot of a node and the sequence number of the record.
func ParseUUID(s string) (boot, seq uint64, err error) {
	var b [16]byte
	plain := strings.ReplaceAll(s, "-", "")
	if len(s) != 36 || len(plain) != 32 {
		return 0, 0, fmt.Errorf("%q is not a UUID", s)
	}
	if _, err := hex.Decode(b[:], []byte(plain)); err != nil {
		return 0, 0, fmt.Errorf("%q is not a UUID", s)
	}
	high, low := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	if high>>12&0xf != 8 || low>>62 != 2 {
		return 0, 0, fmt.Errorf("%q is not the UUID of a flow of Parallax", s)
	}
	return high&^0xffff | high&0xfff<<4 | low>>58&0xf, low & (1<<58 - 1), nil
}
