package flow

import (
	"strings"
	"testing"
)

func TestOpposite(t *testing.T) {
	for p, name := range pointNames {
		o := p.Opposite()
		if o.Opposite() != p || o == p {
			t.Errorf("%s: opposite %s, back %s", p, o, o.Opposite())
		}
		if _, place, _ := strings.Cut(name, "-"); !strings.HasSuffix(o.String(), place) {
			t.Errorf("%s: opposite %s is another place", p, o)
		}
	}
}
