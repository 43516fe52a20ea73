package filter

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/parallax-flow/parallax/flow"
)

// ParseStatus reads an HTTP status code, "503", or the beginning of some, "5+" or "40+".
func ParseStatus(s string) (low, high uint16, err error) {
	digits, prefix := strings.CutSuffix(s, "+")
	n, err := strconv.ParseUint(digits, 10, 16)
	scale := uint64(1)
	for i := len(digits); prefix && i < 3; i++ {
		scale *= 10
	}
	full := len(digits) == 3 && !prefix || prefix && (len(digits) == 1 || len(digits) == 2)
	if err != nil || !full || n*scale < 100 || n*scale > 599 {
		return 0, 0, fmt.Errorf("%q is not a status code from 100 to 599 (503) or the beginning of one (5+, 40+)", s)
	}
	return uint16(n * scale), uint16(n*scale + scale - 1), nil
}

func matchHTTPStatus(values []string) (match, error) {
	type status struct{ low, high uint16 }
	ranges := make([]status, len(values))
	for i, v := range values {
		low, high, err := ParseStatus(v)
		if err != nil {
			return nil, err
		}
		ranges[i] = status{low, high}
	}
	return http(func(l *flow.L7) bool {
		for _, r := range ranges {
			if l.Answered && l.Status >= r.low && l.Status <= r.high {
				return true
			}
		}
		return false
	}), nil
}

func http(matches func(*flow.L7) bool) match {
	return func(f *flow.Flow, _ bool) bool {
		return f.L7 != nil && f.L7.Protocol == flow.L7HTTP && matches(f.L7)
	}
}

func matchHTTPMethod(values []string) (match, error) {
	if slices.Contains(values, "") {
		return nil, errors.New("a method has no empty name: give one such as GET")
	}
	values = slices.Clone(values)
	return http(func(l *flow.L7) bool {
		for _, v := range values {
			if strings.EqualFold(v, l.Operation) {
				return true
			}
		}
		return false
	}), nil
}

func compileRegexps(values []string) ([]*regexp.Regexp, error) {
	out := make([]*regexp.Regexp, len(values))
	for i, v := range values {
		re, err := regexp.Compile(v)
		if err != nil {
			return nil, fmt.Errorf("%q is not a regular expression of RE2: %w", v, err)
		}
		out[i] = re
	}
	return out, nil
}

func matchHTTPPath(values []string) (match, error) {
	regexps, err := compileRegexps(values)
	if err != nil {
		return nil, err
	}
	return http(func(l *flow.L7) bool {
		path, _, _ := strings.Cut(l.Resource, "?")
		for _, re := range regexps {
			if re.MatchString(path) {
				return true
			}
		}
		return false
	}), nil
}

// scratch holds what has to be put together before a regular expression can read it.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

func matchJoined(regexps []*regexp.Regexp, parts ...string) bool {
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	*buf = (*buf)[:0]
	for _, p := range parts {
		*buf = append(*buf, p...)
	}
	for _, re := range regexps {
		if re.Match(*buf) {
			return true
		}
	}
	return false
}

func matchHTTPURL(values []string) (match, error) {
	regexps, err := compileRegexps(values)
	if err != nil {
		return nil, err
	}
	return http(func(l *flow.L7) bool {
		if l.Host == "" {
			return matchJoined(regexps, l.Resource)
		}
		return matchJoined(regexps, "http://", l.Host, l.Resource)
	}), nil
}

// matchDNSQuery reads the name with the root's dot, as Hubble shows it, and without.
func matchDNSQuery(values []string) (match, error) {
	regexps, err := compileRegexps(values)
	if err != nil {
		return nil, err
	}
	return func(f *flow.Flow, _ bool) bool {
		if f.L7 == nil || f.L7.Protocol != flow.L7DNS {
			return false
		}
		name := strings.TrimSuffix(f.L7.Resource, ".")
		return matchJoined(regexps, name) || matchJoined(regexps, name, ".")
	}, nil
}
