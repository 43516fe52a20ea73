package policy

import (
	"maps"
	"slices"
	"strings"
)

// Selector matches labels that fulfil all of its terms; without terms it matches everything.
type Selector struct {
	Terms []Term
}

// Term is one requirement on a label.
type Term struct {
	Key    string
	Op     Op
	Values []string // of In and NotIn, sorted
}

// Op is the operator of a Term, as in LabelSelectorRequirement of k8s.io/apimachinery/pkg/apis/meta/v1.
type Op uint8

const (
	In     Op = iota // the label is there and has one of the values
	NotIn            // the label is missing or has none of the values
	Exists           // the label is there
	Absent           // the label is missing ("DoesNotExist")
)

// Equals returns the selector that matchLabels stands for.
func Equals(labels map[string]string) Selector {
	var s Selector
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		s.Terms = append(s.Terms, Term{Key: k, Op: In, Values: []string{labels[k]}})
	}
	return s
}

// Matches reports whether labels fulfil all terms.
func (s Selector) Matches(labels map[string]string) bool {
	return s.failing(labels) == nil
}

// failing returns the first term that labels do not fulfil, nil if there is none.
func (s Selector) failing(labels map[string]string) *Term {
	for i := range s.Terms {
		if !s.Terms[i].matches(labels) {
			return &s.Terms[i]
		}
	}
	return nil
}

func (t Term) matches(labels map[string]string) bool {
	v, there := labels[t.Key]
	switch t.Op {
	case In:
		return there && slices.Contains(t.Values, v)
	case NotIn:
		return !there || !slices.Contains(t.Values, v)
	case Exists:
		return there
	default:
		return !there
	}
}

// String returns the selector in the syntax of kubectl's -l: "app=web,tier in (a,b),!old"; "" matches everything.
func (s Selector) String() string {
	terms := make([]string, len(s.Terms))
	for i, t := range s.Terms {
		terms[i] = t.String()
	}
	return strings.Join(terms, ",")
}

// String returns the term in the syntax of kubectl's -l.
func (t Term) String() string {
	list := strings.Join(t.Values, ",")
	switch {
	case t.Op == In && len(t.Values) == 1:
		return t.Key + "=" + list
	case t.Op == In:
		return t.Key + " in (" + list + ")"
	case t.Op == NotIn && len(t.Values) == 1:
		return t.Key + "!=" + list
	case t.Op == NotIn:
		return t.Key + " notin (" + list + ")"
	case t.Op == Exists:
		return t.Key
	default:
		return "!" + t.Key
	}
}
