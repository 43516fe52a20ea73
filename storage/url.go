package storage

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/parallax-flow/parallax/storage/embedded"
	"github.com/parallax-flow/parallax/storage/remote"
)

// inMemory is the target of "memory:".
type inMemory struct{}

// Check reports what is wrong with a storage URL, without opening anything.
func Check(storageURL string) error {
	_, err := parse(storageURL)
	return err
}

// Redact returns a storage URL without its password, to be shown.
func Redact(storageURL string) string {
	if u, err := url.Parse(storageURL); err == nil && u.User != nil {
		return u.Redacted()
	}
	return storageURL
}

// parse returns an embedded.Config, a remote.Config or inMemory. Errors never hold the password.
func parse(s string) (any, error) {
	scheme, rest, _ := strings.Cut(s, ":")
	switch scheme {
	case "memory":
		if rest != "" {
			return nil, fmt.Errorf("storage %q: nothing may follow memory:", s)
		}
		return inMemory{}, nil
	case "embedded":
		if rest == "" {
			return nil, fmt.Errorf("storage %q: want embedded:DIR", s)
		}
		return embedded.Config{Dir: rest}, nil
	case "clickhouse", "clickhouses":
		return parseRemote(s)
	}
	return nil, fmt.Errorf("storage %q: want embedded:DIR, clickhouse://user:password@host:9000/database or memory:", scheme+":")
}

// parseRemote reads clickhouse://user:password@host[:port][,host...]/database?secure=true&skip_verify=true&compress=false&dial_timeout=5s.
func parseRemote(s string) (remote.Config, error) {
	u, err := url.Parse(s)
	if err != nil {
		return remote.Config{}, fmt.Errorf("storage: not a URL of the form clickhouse://user:password@host:9000/database")
	}
	bad := func(format string, args ...any) (remote.Config, error) {
		return remote.Config{}, fmt.Errorf("storage %s: %s", u.Redacted(), fmt.Sprintf(format, args...))
	}
	c := remote.Config{Database: strings.TrimPrefix(u.Path, "/"), User: u.User.Username(), Compression: true}
	c.Password, _ = u.User.Password()
	setDefault(&c.Database, "parallax")
	setDefault(&c.User, "default")
	if strings.Contains(c.Database, "/") {
		return bad("%q is not the name of a database", c.Database)
	}
	secure, skipVerify := u.Scheme == "clickhouses", false
	for name, values := range u.Query() {
		switch v := values[len(values)-1]; name {
		case "secure":
			secure = v == "true" || v == "1"
		case "skip_verify":
			skipVerify = v == "true" || v == "1"
		case "compress":
			c.Compression = v != "false" && v != "0" && v != "none"
		case "dial_timeout":
			if c.DialTimeout, err = time.ParseDuration(v); err != nil || c.DialTimeout <= 0 {
				return bad("dial_timeout %q is not a duration such as 5s", v)
			}
		default:
			return bad("unknown parameter %q: there are secure, skip_verify, compress, dial_timeout", name)
		}
	}
	port := "9000"
	if secure {
		port = "9440"
		c.TLS = &tls.Config{InsecureSkipVerify: skipVerify} //nolint:gosec // asked for by skip_verify
	}
	for host := range strings.SplitSeq(u.Host, ",") {
		if host == "" {
			return bad("no host")
		}
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(strings.Trim(host, "[]"), port)
		}
		c.Addresses = append(c.Addresses, host)
	}
	return c, nil
}
