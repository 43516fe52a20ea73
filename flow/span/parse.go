package span

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/filter"
)

// Offsets in a traceparent of version 00: "00-TRACE-PARENT-FLAGS" (W3C Trace Context section 3.2.2).
const (
	traceAt   = 3
	parentAt  = traceAt + 32 + 1
	flagsAt   = parentAt + 16 + 1
	parentEnd = flagsAt + 2
)

// ParseTraceParent reads a traceparent header. ok is false for one that the specification tells to ignore.
func ParseTraceParent(s string) (trace TraceID, parent ID, ok bool) {
	if len(s) < parentEnd || s[2] != '-' || s[parentAt-1] != '-' || s[flagsAt-1] != '-' {
		return trace, parent, false
	}
	version := s[:2]
	if version == "ff" || version == "00" && len(s) != parentEnd || len(s) > parentEnd && s[parentEnd] != '-' {
		return trace, parent, false
	}
	if !digits(version) || !digits(s[flagsAt:parentEnd]) || !digits(s[traceAt:parentAt-1]) || !digits(s[parentAt:flagsAt-1]) {
		return trace, parent, false
	}
	_, _ = hex.Decode(trace[:], []byte(s[traceAt:parentAt-1])) // nothing but digits
	_, _ = hex.Decode(parent[:], []byte(s[parentAt:flagsAt-1]))
	if trace == (TraceID{}) || parent == (ID{}) {
		return TraceID{}, ID{}, false
	}
	return trace, parent, true
}

// digits reports whether s holds lower-case hexadecimal digits only.
func digits(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Parse reads what a person gives to name a trace: 32 hexadecimal digits, a traceparent, or the UUID of a record.
func Parse(s string) (TraceID, error) {
	s = strings.ToLower(strings.TrimSpace(s))
	if t, _, ok := ParseTraceParent(s); ok {
		return t, nil
	}
	plain := s
	if len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' {
		plain = strings.ReplaceAll(s, "-", "")
	}
	var t TraceID
	if len(plain) != 32 || !digits(plain) {
		return t, fmt.Errorf("trace id %q: give 32 hexadecimal digits, a traceparent or the UUID of a flow", s)
	}
	_, _ = hex.Decode(t[:], []byte(plain)) // nothing but digits
	if t == (TraceID{}) {
		return t, fmt.Errorf("trace id %q: all zeros name no trace (W3C Trace Context section 3.2.2.3)", s)
	}
	return t, nil
}

// Filters select the records of a trace: those that carry t; or, to be asked if there are none, the one that t was made from.
func (t TraceID) Filters() []filter.Filter {
	all := []filter.Filter{{TraceID: []string{t.String()}}}
	if uuid, ok := t.UUID(); ok {
		all = append(all, filter.Filter{UUID: []string{uuid}})
	}
	return all
}

// UUID returns the record that t was made from, if t can be such an id.
func (t TraceID) UUID() (string, bool) {
	s := t.String()
	uuid := s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
	_, _, err := flow.ParseUUID(uuid)
	return uuid, err == nil
}
