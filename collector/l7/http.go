package l7

import (
	"bytes"
	"math"
)

// httpMessage is the head of an HTTP/1.x message (RFC 9112). Its slices are parts of the parsed bytes.
type httpMessage struct {
	method, target []byte // request
	status         uint16 // response; 0 in a request
	minor          byte   // '1' in HTTP/1.1; 0 if the first line was cut before it

	host, userAgent, traceparent []byte // nil if absent or cut

	headLen       int   // first byte behind the empty line; 0: the head is not complete in these bytes
	contentLength int64 // -1: no such header
	openEnded     bool  // Transfer-Encoding, or a Content-Length that cannot be trusted
}

// bodyLen returns the bytes of body behind the head, -1 if the head does not tell. noBody: the response is one to
// HEAD (RFC 9112 section 6.3).
func (m *httpMessage) bodyLen(noBody bool) int64 {
	switch {
	case m.headLen == 0:
		return -1
	case noBody, m.status == 204, m.status == 304, m.status >= 100 && m.status < 200:
		return 0
	case m.openEnded:
		return -1
	case m.contentLength >= 0:
		return m.contentLength
	case m.status == 0:
		return 0
	}
	return -1
}

// parse reads the head at the start of b, of which the end may be missing: what is not there stays empty. It reports
// whether b begins with a request line or a status line.
func (m *httpMessage) parse(b []byte) bool {
	*m = httpMessage{contentLength: -1}
	line, rest, whole := cutLine(b)
	if !m.parseStatusLine(line) && !m.parseRequestLine(line, whole) {
		return false
	}
	for whole {
		if line, rest, whole = cutLine(rest); !whole {
			break
		}
		if len(line) == 0 {
			m.headLen = len(b) - len(rest)
			break
		}
		if len(rest) > 0 && (rest[0] == ' ' || rest[0] == '\t') {
			// Obsolete line folding (RFC 9112 section 5.2): no header that we read may use it.
			for whole && len(rest) > 0 && (rest[0] == ' ' || rest[0] == '\t') {
				_, rest, whole = cutLine(rest)
			}
			continue
		}
		m.header(line)
	}
	return true
}

// cutLine splits b behind its first line end, CRLF or LF (RFC 9112 section 2.2). whole is false if there is none.
func cutLine(b []byte) (line, rest []byte, whole bool) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return b, nil, false
	}
	line, rest = b[:i], b[i+1:]
	if i > 0 && line[i-1] == '\r' {
		line = line[:i-1]
	}
	return line, rest, true
}

// parseStatusLine reads "HTTP/1.1 200 OK" (RFC 9112 section 4).
func (m *httpMessage) parseStatusLine(b []byte) bool {
	const version = len("HTTP/1.x")
	if len(b) < version+4 || !isVersion(b[:version]) || b[version] != ' ' {
		return false
	}
	for _, c := range b[version+1 : version+4] {
		if c < '0' || c > '9' {
			return false
		}
		m.status = m.status*10 + uint16(c-'0')
	}
	if m.status < 100 || len(b) > version+4 && b[version+4] != ' ' {
		m.status = 0
		return false
	}
	m.minor = b[version-1]
	return true
}

// parseRequestLine reads "GET /path HTTP/1.1" (RFC 9112 section 3). Of a line that is not whole the version may be
// missing, and the target's end.
func (m *httpMessage) parseRequestLine(b []byte, whole bool) bool {
	method, rest, ok := bytes.Cut(b, []byte{' '})
	if !ok || len(method) == 0 || len(method) > 32 || !isToken(method) {
		return false
	}
	target, version, ok := bytes.Cut(rest, []byte{' '})
	switch {
	case ok && isVersion(version):
		m.minor = version[len(version)-1]
	case whole:
		return false
	}
	if !isTarget(method, target) {
		return false
	}
	m.method, m.target = method, target
	return true
}

// isTarget tells the four forms of RFC 9112 section 3.2 from other text.
func isTarget(method, target []byte) bool {
	if len(target) == 0 {
		return false
	}
	if string(method) == "CONNECT" || target[0] == '/' || string(target) == "*" {
		return true
	}
	i := bytes.Index(target, []byte("://"))
	return i > 0 && isToken(target[:i])
}

func isVersion(b []byte) bool {
	return len(b) == 8 && string(b[:7]) == "HTTP/1." && b[7] >= '0' && b[7] <= '9'
}

// isToken is the token rule of RFC 9110 section 5.6.2.
func isToken(b []byte) bool {
	for _, c := range b {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0:
		default:
			return false
		}
	}
	return true
}

// header takes the fields that we want from one line; of repeated ones the first.
func (m *httpMessage) header(line []byte) {
	i := bytes.IndexByte(line, ':')
	if i < 0 {
		return
	}
	name, value := line[:i], bytes.Trim(line[i+1:], " \t")
	switch len(name) {
	case len("Host"):
		first(&m.host, name, "host", value)
	case len("User-Agent"):
		first(&m.userAgent, name, "user-agent", value)
	case len("Traceparent"):
		first(&m.traceparent, name, "traceparent", value)
	case len("Content-Length"):
		if equalFold(name, "content-length") {
			m.setContentLength(value)
		}
	case len("Transfer-Encoding"):
		if equalFold(name, "transfer-encoding") {
			m.openEnded = true
		}
	}
}

func first(field *[]byte, name []byte, want string, value []byte) {
	if *field == nil && equalFold(name, want) {
		*field = value
	}
}

// setContentLength takes a decimal value (RFC 9110 section 8.6); a second, different one makes the length unknown.
func (m *httpMessage) setContentLength(b []byte) {
	n := int64(0)
	for _, c := range b {
		if c < '0' || c > '9' || n > (math.MaxInt64-9)/10 {
			m.openEnded = true
			return
		}
		n = n*10 + int64(c-'0')
	}
	if len(b) == 0 || m.contentLength >= 0 && m.contentLength != n {
		m.openEnded = true
		return
	}
	m.contentLength = n
}

// equalFold compares ASCII text with lower, which is in lower case.
func equalFold(b []byte, lower string) bool {
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
