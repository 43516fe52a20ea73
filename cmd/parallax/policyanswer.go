package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/parallax-flow/parallax/policy"
)

// answer is an explanation in the order in which a person needs it: the verdict, then the side that decided and why, then
// what did not match.
type answer struct {
	decision policy.Decision
	question string
	sides    []answerSide // the deciding one first
	origins  map[policy.Ref]string
}

type answerSide struct {
	policy.Side
	text     string // "ingress of shop/web: denied: default deny because of ..."
	policies []answerPolicy
}

// answerPolicy is what one policy has to say.
type answerPolicy struct {
	ref   policy.Ref
	rank  int      // 0: one of its rules allows; 1: it selects the pod; 2: it has no say
	lines []string // the first says whether it selects the pod, the others go through its rules
}

// newAnswer sorts x. Its lines are paragraphs: the question, both sides, the verdict; a side's policies are indented once,
// their rules twice.
func newAnswer(x policy.Explanation, policies []policy.Policy) *answer {
	a := &answer{decision: x.Decision, question: x.Lines[0], origins: make(map[policy.Ref]string)}
	for _, p := range policies {
		a.origins[p.Ref] = p.Origin
	}
	for _, side := range []policy.Side{x.Egress, x.Ingress} {
		start := slices.IndexFunc(x.Lines, func(s string) bool { return strings.HasPrefix(s, side.Direction.String()+" of ") })
		s := answerSide{Side: side, text: x.Lines[start]}
		for _, line := range x.Lines[start+1:] {
			text, nested := strings.CutPrefix(line, "    ")
			if n := len(s.policies); nested && n > 0 {
				s.policies[n-1].lines = append(s.policies[n-1].lines, text)
				continue
			}
			if text, nested = strings.CutPrefix(line, "  "); !nested {
				break
			}
			s.policies = append(s.policies, s.policy(text, policies))
		}
		slices.SortStableFunc(s.policies, func(p, q answerPolicy) int { return p.rank - q.rank })
		a.sides = append(a.sides, s)
	}
	slices.SortStableFunc(a.sides, func(s, t answerSide) int { return s.rank() - t.rank() })
	return a
}

// rank puts a side that denies before one that a rule allows, and that before one where policies have no say.
func (s *answerSide) rank() int {
	switch {
	case !s.Allowed:
		return 0
	case len(s.Policies) > 0:
		return 1
	}
	return 2
}

// policy begins the part of the policy whose line this is.
func (s *answerSide) policy(line string, all []policy.Policy) answerPolicy {
	p := answerPolicy{rank: 2, lines: []string{line}}
	if i := slices.IndexFunc(all, func(p policy.Policy) bool { return strings.HasPrefix(line, p.Ref.String()+" ") }); i >= 0 {
		p.ref = all[i].Ref
	}
	switch {
	case slices.ContainsFunc(s.Rules, func(r policy.RuleRef) bool { return r.Policy == p.ref }):
		p.rank = 0
	case slices.Contains(s.Policies, p.ref):
		p.rank = 1
	}
	return p
}

// verdict returns "DENIED at the destination: default deny because of ...", its first word apart.
func (a *answer) verdict() (word, rest string) {
	word, rest, _ = strings.Cut(a.decision.String(), " ")
	word = strings.ToUpper(word)
	if !a.decision.Allowed {
		return word, " " + rest
	}
	var rules []string
	for _, s := range a.sides {
		for _, r := range s.Rules {
			rules = append(rules, r.String())
		}
	}
	if len(rules) > 0 {
		return word, " by " + strings.Join(rules, " and ")
	}
	for _, s := range a.sides {
		if s.Reason == policy.FromOwnNode || s.Reason == policy.ToItself {
			return word, ": " + s.Reason.String()
		}
	}
	return word, ": no policy is against it"
}

// write prints a, in colour on a terminal.
func (a *answer) write(w io.Writer, terminal bool) error {
	paint := func(code, s string) string {
		if !terminal {
			return s
		}
		return "\x1b[" + code + "m" + s + "\x1b[0m"
	}
	mark := func(allowed bool) (code, sign string) {
		if allowed {
			return "32", "✓"
		}
		return "1;31", "✗"
	}
	out := bufio.NewWriter(w)
	code, _ := mark(a.decision.Allowed)
	word, rest := a.verdict()
	fmt.Fprintf(out, "%s%s\n%s\n", paint(code, word), rest, a.question)
	for _, s := range a.sides {
		code, sign := mark(s.Allowed)
		fmt.Fprintf(out, "\n%s %s\n", paint(code, sign), s.text)
		for _, p := range s.policies {
			origin := ""
			if from := a.origins[p.ref]; from != "" && p.rank < 2 {
				origin = paint("2", "  ["+printable(from)+"]")
			}
			for i, line := range p.lines {
				switch {
				case i == 0 && p.rank == 2:
					fmt.Fprintf(out, "  %s\n", paint("2", line))
				case i == 0:
					fmt.Fprintf(out, "  %s%s\n", line, origin)
				default:
					fmt.Fprintf(out, "    %s\n", line)
				}
			}
		}
	}
	return out.Flush()
}

// answerJSON is the form of -o json.
type answerJSON struct {
	Allowed  bool             `json:"allowed"`
	Verdict  string           `json:"verdict"`
	Question string           `json:"question"`
	Sides    []answerSideJSON `json:"sides"` // the deciding one first
}

type answerSideJSON struct {
	Direction string             `json:"direction"`
	Allowed   bool               `json:"allowed"`
	Reason    string             `json:"reason"`
	AllowedBy []string           `json:"allowedBy"` // rules
	Isolating []string           `json:"isolating"` // policies that select the pod in this direction
	Policies  []answerPolicyJSON `json:"policies"`
}

type answerPolicyJSON struct {
	Policy string   `json:"policy"`
	File   string   `json:"file,omitempty"`
	Lines  []string `json:"lines"`
}

func (a *answer) json() answerJSON {
	out := answerJSON{Allowed: a.decision.Allowed, Verdict: a.decision.String(), Question: a.question}
	for _, s := range a.sides {
		side := answerSideJSON{Direction: s.Direction.String(), Allowed: s.Allowed, Reason: s.Reason.String(), AllowedBy: []string{}, Isolating: []string{}, Policies: []answerPolicyJSON{}}
		for _, r := range s.Rules {
			side.AllowedBy = append(side.AllowedBy, r.String())
		}
		for _, r := range s.Side.Policies {
			side.Isolating = append(side.Isolating, r.String())
		}
		for _, p := range s.policies {
			side.Policies = append(side.Policies, answerPolicyJSON{p.ref.String(), a.origins[p.ref], p.lines})
		}
		out.Sides = append(out.Sides, side)
	}
	return out
}
