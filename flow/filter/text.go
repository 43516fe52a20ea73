package filter

import (
	"errors"
	"strings"

	"github.com/parallax-flow/parallax/flow"
)

// lower lowers ASCII letters: names in filters are ASCII, other letters compare exactly.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

func lowerByte(b byte) byte {
	if b >= 'A' && b <= 'Z' {
		return b + 'a' - 'A'
	}
	return b
}

// glob reports whether s, in any case, matches pattern, which is in lower case and in which * stands for any bytes.
func glob(pattern, s string) bool {
	p, i := 0, 0
	star, resume := -1, 0 // the last * and where what it stands for ends
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, resume = p, i
			p++
		case p < len(pattern) && pattern[p] == lowerByte(s[i]):
			p++
			i++
		case star >= 0:
			resume++
			p, i = star+1, resume
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// containsFold reports whether s, in any case, contains needle, which is in lower case and not empty.
func containsFold[S string | []byte](s S, needle string) bool {
	for i := 0; i+len(needle) <= len(s); i++ {
		if lowerByte(s[i]) != needle[0] {
			continue
		}
		j := 1
		for j < len(needle) && lowerByte(s[i+j]) == needle[j] {
			j++
		}
		if j == len(needle) {
			return true
		}
	}
	return false
}

func matchText(values []string) (match, error) {
	needles := make([]string, len(values))
	for i, v := range values {
		if v == "" {
			return nil, errors.New("an empty text is in everything")
		}
		needles[i] = lower(v)
	}
	return func(f *flow.Flow, _ bool) bool {
		for _, n := range needles {
			if hasText(f, n) {
				return true
			}
		}
		return false
	}, nil
}

func hasText(f *flow.Flow, needle string) bool {
	for _, e := range [...]*flow.Endpoint{f.Src, f.Dst} {
		if e != nil && (containsFold(e.Namespace, needle) || containsFold(e.Pod, needle) ||
			containsFold(e.Workload, needle) || containsFold(e.Name, needle)) {
			return true
		}
	}
	for _, a := range [...]flow.Addr{f.SrcAddr, f.DstAddr} {
		var buf [48]byte
		if !a.IsZero() && containsFold(a.Netip().AppendTo(buf[:0]), needle) {
			return true
		}
	}
	if f.L7 != nil && (containsFold(f.L7.Resource, needle) || containsFold(f.L7.Host, needle)) {
		return true
	}
	if f.Policy != nil && policyHasText(f.Policy.Policies, needle) {
		return true
	}
	return f.Drop != nil && (containsFold(f.Drop.Reason, needle) || containsFold(f.Drop.Symbol, needle))
}

// policyHasText reads names as a person does: "NetworkPolicy shop/allow-web".
func policyHasText(refs []flow.PolicyRef, needle string) bool {
	for i := range refs {
		var buf [256]byte
		text := append(append(buf[:0], refs[i].Kind...), ' ')
		if refs[i].Namespace != "" {
			text = append(append(text, refs[i].Namespace...), '/')
		}
		if containsFold(append(text, refs[i].Name...), needle) {
			return true
		}
	}
	return false
}
