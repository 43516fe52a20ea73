package enrich

// generations is a bounded map that forgets what was not used for long: at most two generations of size entries. When
// the young one is full it becomes the old one; what is used moves back from there.
type generations[K comparable, V any] struct {
	size       int
	young, old map[K]V
}

func newGenerations[K comparable, V any](size int) generations[K, V] {
	return generations[K, V]{size: size, young: make(map[K]V), old: make(map[K]V)}
}

func (g *generations[K, V]) get(k K) (V, bool) {
	v, ok := g.young[k]
	if ok || len(g.old) == 0 {
		return v, ok
	}
	if v, ok = g.old[k]; ok {
		g.put(k, v)
	}
	return v, ok
}

func (g *generations[K, V]) put(k K, v V) {
	if _, ok := g.young[k]; !ok && len(g.young) >= g.size {
		g.young, g.old = g.old, g.young
		clear(g.young)
	}
	g.young[k] = v
}

func (g *generations[K, V]) drop(k K) {
	delete(g.young, k)
	delete(g.old, k)
}
