package meta

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parallax-flow/parallax/flow"
)

// Config tunes a Directory. A zero field takes the default named beside it.
type Config struct {
	Node  string           // the node that this process runs on: its host endpoint gets Cilium's identity 1, others 6; may be empty
	Grace time.Duration    // 1m: a deleted owner still names its address to flows this much behind its deletion, if nobody took it over
	Keep  time.Duration    // 10m: how long a former owner is remembered
	Now   func() time.Time // time.Now
}

// Directory knows who owns an address, and who did before. Updates may come from many goroutines; Lookup never waits
// for them and does not allocate.
type Directory struct {
	cfg    Config
	shards [1 << shardBits]atomic.Pointer[table] // an update replaces one of them

	mu      sync.Mutex // held by writers and by listings
	objects map[Key]*entry
	claims  map[flow.Addr][]claim // live claims on an address, the one that holds it first
	counts  map[Kind]int
}

// entry is an object with the endpoint made of it.
type entry struct {
	object   *Object
	endpoint *flow.Endpoint // nil for a namespace
}

// claim is an object's wish to own an address.
type claim struct {
	key      Key
	endpoint *flow.Endpoint
}

// timeline is the ownership of one address: the newest owner inline, since nearly all lookups end there.
type timeline struct {
	owner
	former []owner // newest first
}

// owner held the address from its from to the from of the next, at most to its until. Unix ns.
type owner struct {
	endpoint    *flow.Endpoint
	from, until int64
}

const (
	always = -1 << 63
	never  = 1<<63 - 1
)

// NewDirectory returns an empty Directory.
func NewDirectory(cfg Config) *Directory {
	cfg.Grace = cmp.Or(cfg.Grace, time.Minute)
	cfg.Keep = max(cmp.Or(cfg.Keep, 10*time.Minute), cfg.Grace)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	d := &Directory{
		cfg: cfg, objects: make(map[Key]*entry), claims: make(map[flow.Addr][]claim), counts: make(map[Kind]int),
	}
	for i := range d.shards {
		d.shards[i].Store(&table{slots: make([]slot, sizeFor(0))})
	}
	return d
}

// Run feeds d from sources until ctx ends, or until one fails: then it stops the others and returns that error.
func (d *Directory) Run(ctx context.Context, sources ...Source) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for i, s := range sources {
		wg.Go(func() {
			if err := s.Watch(ctx, d.Update); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("metadata source %d (%T): %w", i, s, err))
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// Lookup returns who owned a at that time (Unix ns), nil if nobody that d knows. An address's first known owner
// counts as having had it always: objects are older than the news of them.
func (d *Directory) Lookup(a flow.Addr, at int64) *flow.Endpoint {
	h := hash(a)
	t := d.shards[h>>(64-shardBits)].Load().get(a, h)
	if t == nil {
		return nil
	}
	if at >= t.from {
		if at > t.until {
			return nil
		}
		return t.endpoint
	}
	for i := range t.former {
		if o := &t.former[i]; at >= o.from {
			if at > o.until {
				return nil
			}
			return o.endpoint
		}
	}
	return nil
}

// Update takes one change. Objects of all sources share one space of keys.
func (d *Directory) Update(u Update) {
	if u.Object == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.cfg.Now().UnixNano()
	key := u.Object.Key()
	old := d.objects[key]
	if u.Deleted {
		if old != nil {
			delete(d.objects, key)
			d.counts[key.Kind]--
			d.release(old, nil, now)
		}
		return
	}
	e := &entry{object: u.Object, endpoint: d.endpointOf(u.Object)}
	d.objects[key] = e
	if old == nil {
		d.counts[key.Kind]++
	} else {
		if equal(old.endpoint, e.endpoint) {
			e.endpoint = old.endpoint
		}
		d.release(old, e, now)
	}
	for _, a := range owned(e.object) {
		d.claim(flow.AddrFrom(a), claim{key, e.endpoint}, now)
	}
}

// release takes back the claims of old on addresses that next, its successor or nil, does not have.
func (d *Directory) release(old, next *entry, now int64) {
	for _, addr := range owned(old.object) {
		if next != nil && slices.Contains(owned(next.object), addr) {
			continue
		}
		a := flow.AddrFrom(addr)
		claims := slices.DeleteFunc(d.claims[a], func(c claim) bool { return c.key == old.object.Key() })
		if len(claims) == 0 {
			delete(d.claims, a)
		} else {
			d.claims[a] = claims
		}
		d.publish(a, now)
	}
}

// claim registers c on a. Where several objects have one address the pod wins, then the node, then who came last; news
// of an object that has its claim already is no new coming.
func (d *Directory) claim(a flow.Addr, c claim, now int64) {
	claims := d.claims[a]
	if i := slices.IndexFunc(claims, func(o claim) bool { return o.key == c.key }); i >= 0 {
		claims[i] = c
		d.publish(a, now)
		return
	}
	at, _ := slices.BinarySearchFunc(claims, c, func(o, c claim) int {
		if rank(o.key.Kind) < rank(c.key.Kind) {
			return -1
		}
		return 1
	})
	d.claims[a] = slices.Insert(claims, at, c)
	d.publish(a, now)
}

func rank(k Kind) int { return slices.Index([]Kind{Pod, Node, Service}, k) }

// publish makes the first claim on a visible to Lookup.
func (d *Directory) publish(a flow.Addr, now int64) {
	var holder *flow.Endpoint
	if c := d.claims[a]; len(c) > 0 {
		holder = c[0].endpoint
	}
	h := hash(a)
	p := &d.shards[h>>(64-shardBits)]
	was := p.Load()
	t := was.get(a, h)
	if t == nil && holder == nil || t != nil && t.until == never && t.endpoint == holder {
		return
	}
	forgotten := now - int64(d.cfg.Keep)
	p.Store(was.with(a, d.succeed(t, holder, now), func(t *timeline) bool { return t.until > forgotten }))
}

// succeed returns t, nil if there is none, with holder in place of its owner; a nil holder ends the ownership.
func (d *Directory) succeed(t *timeline, holder *flow.Endpoint, now int64) *timeline {
	if t == nil {
		return &timeline{owner: owner{holder, always, never}}
	}
	if holder == nil {
		ended := *t
		ended.until = now + int64(d.cfg.Grace)
		return &ended
	}
	from := now
	if t.until != never {
		from = t.until - int64(d.cfg.Grace) // free since then: what came after it is the new owner's
	}
	former := []owner{t.owner}
	for _, o := range t.former {
		if end := former[len(former)-1].from; len(former) == maxFormer || end < now-int64(d.cfg.Keep) {
			break
		}
		former = append(former, o)
	}
	return &timeline{owner: owner{holder, from, never}, former: former}
}

const maxFormer = 8

// owned returns the addresses that name o: a pod in its host's network has none.
func owned(o *Object) []netip.Addr {
	if o.Kind == Namespace || o.HostNetwork && o.Kind == Pod {
		return nil
	}
	return o.Addrs
}

// Len returns how many objects of kind d knows.
func (d *Directory) Len(kind Kind) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts[kind]
}

// Objects returns what d knows of kind, sorted by namespace and name.
func (d *Directory) Objects(kind Kind) []*Object {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]*Object, 0, d.counts[kind])
	for k, e := range d.objects {
		if k.Kind == kind {
			list = append(list, e.object)
		}
	}
	slices.SortFunc(list, func(a, b *Object) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return list
}

// Namespaces returns the namespaces that exist or hold an object, sorted.
func (d *Directory) Namespaces() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []string
	for k := range d.objects {
		switch {
		case k.Kind == Namespace:
			list = append(list, k.Name)
		case k.Namespace != "":
			list = append(list, k.Namespace)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}
