package l7

import (
	"bytes"

	"github.com/parallax-flow/parallax/flow"
)

// Bytes kept of what a peer can make as long as it likes.
const (
	maxPath = 256
	maxHost = 255
	maxText = 256
)

// describeRequest fills the fields of r that the request in t.http gives.
func (t *Tracker) describeRequest(r *flow.L7) {
	m := &t.http
	r.Operation = t.strings.get(m.method)
	switch m.minor {
	case '1':
		r.Version = "HTTP/1.1"
	case '0':
		r.Version = "HTTP/1.0"
	case 0:
	default:
		r.Version = "HTTP/1." + string(rune(m.minor))
	}
	host, path := m.splitTarget()
	r.Host = t.text(host, maxHost)
	r.UserAgent = t.text(m.userAgent, maxText)
	t.scratch = appendPath(t.scratch[:0], path, t.cfg.KeepQueryValues)
	r.Resource = t.strings.get(t.scratch)
	if isTraceParent(m.traceparent) {
		r.TraceParent = string(m.traceparent)
	}
}

// splitTarget returns the request's host and its path with query. The host of an absolute-form target wins over the
// Host header (RFC 9112 section 3.2.2) and loses its userinfo.
func (m *httpMessage) splitTarget() (host, path []byte) {
	t := m.target
	if string(m.method) == "CONNECT" && t[0] != '/' {
		host = withoutUserinfo(t)
		return host, host
	}
	if t[0] == '/' || string(t) == "*" {
		return m.host, t
	}
	host = t[bytes.Index(t, []byte("://"))+3:]
	if i := bytes.IndexAny(host, "/?#"); i >= 0 {
		host, path = host[:i], host[i:]
	}
	if len(path) == 0 || path[0] != '/' {
		path = append([]byte{'/'}, path...)
	}
	return withoutUserinfo(host), path
}

func withoutUserinfo(host []byte) []byte {
	return host[bytes.LastIndexByte(host, '@')+1:]
}

// text interns what is left of b when it is cut to limit and everything but printable ASCII is replaced.
func (t *Tracker) text(b []byte, limit int) string {
	b = b[:min(len(b), limit)]
	for i, c := range b {
		if c >= ' ' && c <= '~' {
			continue
		}
		t.scratch = append(t.scratch[:0], b...)
		for j := i; j < len(b); j++ {
			if c := b[j]; c < ' ' || c > '~' {
				t.scratch[j] = '?'
			}
		}
		return t.strings.get(t.scratch)
	}
	return t.strings.get(b)
}

// appendPath appends the path and query of a request target, at most maxPath bytes in all. The fragment goes. Unless
// keep is set, so do values: "/a;id=1?q=x&y" becomes "/a;id=-?q=-&-". A parameter without "=" is taken for a value,
// since it may be a token. Bytes that do not belong in a target are percent-encoded.
func appendPath(dst, target []byte, keep bool) []byte {
	const (
		plain = iota // path segment
		named        // name of a parameter
		value        // value, dropped
	)
	if i := bytes.IndexByte(target, '#'); i >= 0 {
		target = target[:i]
	}
	state, query, start := plain, false, 0
	redact := func() {
		if state == named && query && !keep && len(dst) > start {
			dst = append(dst[:start], '-')
		}
	}
	for _, c := range target {
		if len(dst) >= maxPath {
			break
		}
		switch {
		case c == '?' && !query:
			query, state = true, named
		case query && (c == '&' || c == ';'), !query && c == ';':
			redact()
			state = named
		case !query && c == '/':
			state = plain
		case state == named && c == '=':
			state = value
			if !keep {
				dst = append(dst, "=-"...)
				continue
			}
		case state == value && !keep:
			continue
		case c < '!' || c > '~':
			dst = append(dst, '%', hex[c>>4], hex[c&15])
			continue
		}
		dst = append(dst, c)
		if state == named && (c == '?' || c == '&' || c == ';') {
			start = len(dst)
		}
	}
	redact()
	return dst[:min(len(dst), maxPath)]
}

const hex = "0123456789ABCDEF"

// isTraceParent checks the form of W3C Trace Context, section 3.2: version, trace id, parent id and flags in hex.
func isTraceParent(b []byte) bool {
	if len(b) != 55 || b[2] != '-' || b[35] != '-' || b[52] != '-' {
		return false
	}
	for i, c := range b {
		if i == 2 || i == 35 || i == 52 {
			continue
		}
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
