package flow

import "strings"

// Bounds of a route, so that what clients ask for can fill no table.
const (
	maxSegments = 8
	maxRoute    = 120 // bytes
)

// Route returns the resource of l without what differs from one exchange to the next: the query, and segments of a path
// that are numbers, UUIDs or long hexadecimal strings, which become {id}. It is at most 120 bytes and 8 segments long.
func Route(l *L7) string {
	s := l.Resource
	if l.Protocol == L7HTTP {
		s, _, _ = strings.Cut(s, "?")
		s = routePath(s)
	}
	if len(s) > maxRoute {
		s = strings.ToValidUTF8(s[:maxRoute], "")
	}
	return s
}

// routePath replaces variable segments of s. It allocates only if there are any.
func routePath(s string) string {
	var b strings.Builder
	kept, segments := 0, 0 // s[:kept] is in b
	for i := 0; i < len(s); {
		if s[i] == '/' {
			i++
			if segments++; segments > maxSegments {
				b.WriteString(s[kept:i])
				b.WriteString("...")
				return b.String()
			}
			continue
		}
		end := len(s)
		if n := strings.IndexByte(s[i:], '/'); n >= 0 {
			end = i + n
		}
		if variable(s[i:end]) {
			b.WriteString(s[kept:i])
			b.WriteString("{id}")
			kept = end
		}
		i = end
	}
	if kept == 0 {
		return s
	}
	b.WriteString(s[kept:])
	return b.String()
}

// variable reports whether segment is a number, or at least 8 hexadecimal digits and dashes of which one is a number.
func variable(segment string) bool {
	digits, hex := 0, 0
	for i := range len(segment) {
		switch c := segment[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c >= 'a' && c <= 'f', c >= 'A' && c <= 'F', c == '-':
			hex++
		default:
			return false
		}
	}
	return digits > 0 && (hex == 0 || digits+hex >= 8)
}
