package l7

// link is a place in a list, embedded in its owner.
type link[T any] struct {
	prev, next *link[T]
	owner      *T
}

// list is a doubly linked list through links in its elements: no allocation to insert, no search to remove.
type list[T any] struct {
	first, last *link[T]
}

func (l *list[T]) front() *T {
	if l.first == nil {
		return nil
	}
	return l.first.owner
}

func (l *list[T]) pushBack(e *link[T]) {
	e.prev, e.next = l.last, nil
	if l.last != nil {
		l.last.next = e
	} else {
		l.first = e
	}
	l.last = e
}

// remove takes e, which must be in l, out of it.
func (l *list[T]) remove(e *link[T]) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		l.first = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		l.last = e.prev
	}
	e.prev, e.next = nil, nil
}

// slab hands out values from chunks, so that one allocation serves many. A chunk is free when none of its values is in
// use; flows leave the node's ring in the order in which they came, so chunks do not linger.
type slab[T any] struct {
	chunk int
	free  []T
}

// take returns n zero values, n <= chunk.
func (s *slab[T]) take(n int) []T {
	if len(s.free) < n {
		s.free = make([]T, s.chunk)
	}
	v := s.free[:n:n]
	s.free = s.free[n:]
	return v
}

// interner gives one string for equal bytes. It holds at most two generations of size strings: when the young one is
// full it becomes the old one, and what is still used moves back on its next use.
type interner struct {
	size       int
	young, old map[string]string
}

func newInterner(size int) interner {
	return interner{size: size, young: make(map[string]string), old: make(map[string]string)}
}

func (in *interner) get(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if s, ok := in.young[string(b)]; ok {
		return s
	}
	s, ok := in.old[string(b)]
	if !ok {
		s = string(b)
	}
	if len(in.young) >= in.size {
		in.young, in.old = in.old, in.young
		clear(in.young)
	}
	in.young[s] = s
	return s
}
