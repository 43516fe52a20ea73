package filter

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/parallax-flow/parallax/flow"
)

func TestParseSelector(t *testing.T) {
	for give, want := range map[string]Selector{
		"a":                     {{Key: "a", Op: OpExists}},
		" ! a ":                 {{Key: "a", Op: OpNotExists}},
		"a=b":                   {{Key: "a", Op: OpIn, Values: []string{"b"}}},
		"a == b":                {{Key: "a", Op: OpIn, Values: []string{"b"}}},
		"a=":                    {{Key: "a", Op: OpIn, Values: []string{""}}},
		"a!=b,c":                {{Key: "a", Op: OpNotIn, Values: []string{"b"}}, {Key: "c"}},
		"a in (c,b, b)":         {{Key: "a", Op: OpIn, Values: []string{"b", "c"}}},
		"a notin(b,)":           {{Key: "a", Op: OpNotIn, Values: []string{"", "b"}}},
		"a>5":                   {{Key: "a", Op: OpGreater, Values: []string{"5"}}},
		"a < -5":                {{Key: "a", Op: OpLess, Values: []string{"-5"}}},
		"in in (in)":            {{Key: "in", Op: OpIn, Values: []string{"in"}}},
		"x.y/z=1":               {{Key: "x.y/z", Op: OpIn, Values: []string{"1"}}},
		"k8s:app=x,any:tier":    {{Key: "app", Op: OpIn, Values: []string{"x"}}, {Key: "tier"}},
		"!reserved:world":       {{Key: "world", Op: OpNotExists}},
		"":                      nil,
		",":                     nil,
		"a,":                    nil,
		"a b":                   nil,
		"a in b":                nil,
		"a in (b":               nil,
		"a in (b c)":            nil,
		"a=b c":                 nil,
		"!a=b":                  nil,
		"-a":                    nil,
		"a=-":                   nil,
		"/a":                    nil,
		"X.Y/a":                 nil,
		"a/b/c":                 nil,
		"cidr:10.0.0.0/8":       nil,
		"reserved:world=x":      nil,
		"a>b":                   nil,
		strings.Repeat("a", 64): nil,
	} {
		got, err := ParseSelector(give)
		if (err != nil) != (want == nil) {
			t.Errorf("%q: error %v", give, err)
			continue
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Requirement{})); diff != "" {
			t.Errorf("%q: %s", give, diff)
		}
	}
}

func TestSelectorMatches(t *testing.T) {
	e := &flow.Endpoint{Kind: flow.EndpointPod, Labels: []string{"app-x=1", "app.kubernetes.io/name=web", "app=web", "empty=", "n=10"}}
	for give, want := range map[string]bool{
		"app": true, "ap": false, "app=web": true, "app=we": false, "app!=web": false, "other!=web": true, "!other": true, "!app": false,
		"empty=": true, "empty": true, "empty in (a,)": true, "n>9": true, "n>10": false, "n<11": true, "app>1": false, "other<1": false,
		"app-x=1,app.kubernetes.io/name=web": true, "app=web,n=11": false, "app notin (web)": false, "app notin (x)": true, "reserved:world": false, "!reserved:world": true,
	} {
		s, err := ParseSelector(give)
		if err != nil {
			t.Errorf("%q: %v", give, err)
			continue
		}
		if got := s.Matches(e); got != want {
			t.Errorf("%q: %v", give, got)
		}
	}
}

// What is accepted means the same with spaces around every operator.
func FuzzSelector(f *testing.F) {
	for _, s := range []string{"a", "!a", "a=b,c!=d", "a in (b,c),d notin (e)", "x.y/z>1", "reserved:host", "a==b,", "a in ()"} {
		f.Add(s)
	}
	spaced := strings.NewReplacer("!=", " != ", "==", " == ", "=", " = ", ",", " , ", "(", " ( ", ")", " ) ", "<", " < ", ">", " > ")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseSelector(s)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n") && !strings.ContainsAny(s, "\n") {
				t.Errorf("error of several lines: %v", err)
			}
			return
		}
		again, err := ParseSelector(spaced.Replace(s))
		if err != nil {
			t.Fatalf("%q is accepted, %q is not: %v", s, spaced.Replace(s), err)
		}
		if diff := cmp.Diff(got, again, cmpopts.IgnoreUnexported(Requirement{})); diff != "" {
			t.Error(diff)
		}
		got.Matches(&flow.Endpoint{Labels: []string{s, "a=b"}})
	})
}
