package filter

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// labelParser is a recursive descent parser of label selectors.
type labelParser struct{ rest string }

func (p *labelParser) space() { p.rest = strings.TrimLeft(p.rest, " \t") }

func (p *labelParser) end() bool {
	p.space()
	return p.rest == ""
}

// take consumes token if it is next.
func (p *labelParser) take(token string) bool {
	p.space()
	rest, ok := strings.CutPrefix(p.rest, token)
	if ok {
		p.rest = rest
	}
	return ok
}

// word consumes what stands before the next space or operator.
func (p *labelParser) word() string {
	p.space()
	i := strings.IndexAny(p.rest, " \t,=!()<>")
	if i < 0 {
		i = len(p.rest)
	}
	w := p.rest[:i]
	p.rest = p.rest[i:]
	return w
}

func (p *labelParser) requirement() (r Requirement, err error) {
	negated := p.take("!")
	if r.Key, r.reserved, err = labelKey(p.word()); err != nil {
		return r, err
	}
	p.space()
	switch {
	case negated:
		r.Op = OpNotExists
	case p.rest == "" || p.rest[0] == ',':
		r.Op = OpExists
	case p.take("=="), p.take("="):
		r.Op = OpIn
		r.Values, err = p.value()
	case p.take("!="):
		r.Op = OpNotIn
		r.Values, err = p.value()
	case p.take(">"):
		r.Op = OpGreater
		err = p.number(&r)
	case p.take("<"):
		r.Op = OpLess
		err = p.number(&r)
	default:
		switch w := p.word(); w {
		case "in":
			r.Op = OpIn
		case "notin":
			r.Op = OpNotIn
		default:
			return r, fmt.Errorf("%q is not one of =, ==, !=, in, notin, >, <", w+p.rest)
		}
		r.Values, err = p.list()
	}
	if r.reserved && r.Op > OpNotExists {
		return r, fmt.Errorf("reserved:%s has no value", r.Key)
	}
	return r, err
}

func (p *labelParser) value() ([]string, error) {
	v := p.word()
	return []string{v}, checkLabelValue(v)
}

func (p *labelParser) number(r *Requirement) error {
	w := p.word()
	n, err := strconv.ParseInt(w, 10, 64)
	if err != nil {
		return fmt.Errorf("%q is not an integer", w)
	}
	r.Values, r.number = []string{w}, n
	return nil
}

// list reads "(a, b)"; an empty value may stand between commas.
func (p *labelParser) list() ([]string, error) {
	if !p.take("(") {
		return nil, errors.New("in and notin need a list: (a, b)")
	}
	var values []string
	for {
		v := p.word()
		if err := checkLabelValue(v); err != nil {
			return nil, err
		}
		values = append(values, v)
		if p.take(")") {
			slices.Sort(values)
			return slices.Compact(values), nil
		}
		if !p.take(",") {
			return nil, errors.New("a list ends with )")
		}
	}
}

// labelKey checks a key: an optional source and ":", an optional DNS subdomain and "/", a name of at most 63 characters.
func labelKey(s string) (key string, reserved bool, err error) {
	key = s
	if source, rest, found := strings.Cut(s, ":"); found {
		key = rest
		switch source {
		case "k8s", "any":
		case "reserved":
			reserved = true
		default:
			return "", false, fmt.Errorf("%q is not a known source of labels: k8s, any, reserved", source)
		}
	}
	prefix, name, found := strings.Cut(key, "/")
	if !found {
		prefix, name = "", key
	}
	if found && !isSubdomain(prefix) || name == "" || checkLabelValue(name) != nil {
		return "", false, fmt.Errorf("%q is not a label key", s)
	}
	return key, reserved, nil
}

func isSubdomain(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		if part == "" || !alphanumeric(part[0]) || !alphanumeric(part[len(part)-1]) || strings.ContainsFunc(part, func(r rune) bool {
			return r != '-' && (r >= 0x80 || !alphanumeric(byte(r)) || r >= 'A' && r <= 'Z')
		}) {
			return false
		}
	}
	return true
}

// checkLabelValue checks a value: empty, or at most 63 letters, digits, '-', '_' and '.', a letter or digit at both ends.
func checkLabelValue(s string) error {
	if s == "" {
		return nil
	}
	if len(s) > 63 || !alphanumeric(s[0]) || !alphanumeric(s[len(s)-1]) || strings.ContainsFunc(s, func(r rune) bool {
		return r >= 0x80 || !alphanumeric(byte(r)) && r != '-' && r != '_' && r != '.'
	}) {
		return fmt.Errorf("%q is not a label value: at most 63 letters, digits, '-', '_' and '.'", s)
	}
	return nil
}

func alphanumeric(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9'
}
