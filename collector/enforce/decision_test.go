package enforce

import (
	"fmt"
	"testing"

	"github.com/parallax-flow/parallax/policy"
)

func TestFormerDecisionsAreBounded(t *testing.T) {
	var d decisions
	rules := func(from, n uint32) map[uint32]policy.RuleInfo {
		m := make(map[uint32]policy.RuleInfo)
		for id := from; id < from+n; id++ {
			m[id] = policy.RuleInfo{ID: id, Text: fmt.Sprint(id)}
		}
		return m
	}
	d.learn(rules(0, 10))
	first := d.lookup(5)
	d.learn(rules(5, 10)) // 0 to 4 go
	d.learn(rules(0, 10)) // and come back, in place of 10 to 14
	if len(d.former) != 5 || d.former[0] != 10 || d.lookup(5) != first || d.lookup(14).Text != "14" {
		t.Errorf("former %v", d.former)
	}
	d.learn(rules(100, maxFormer+100))
	d.learn(rules(0, 1))
	if n := len(*d.current.Load()); n != maxFormer+1 || len(d.former) != maxFormer {
		t.Errorf("%d are known", n)
	}
	if d.lookup(10) != nil || d.lookup(maxFormer+199) == nil || d.lookup(0) == nil {
		t.Error("not the oldest were forgotten")
	}
	d.learn(map[uint32]policy.RuleInfo{0: {ID: 0, Text: "another"}})
	if d.lookup(0).Text != "another" {
		t.Error("a number kept its former meaning")
	}
}
