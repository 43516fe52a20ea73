package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/filter"
	"github.com/parallax-flow/parallax/flow/query"
)

// bucket is the span of time that the order of the flows table begins with.
const bucket = int64(5 * time.Minute)

// maxSpan is the longest span that one statement sorts. It is a bound on memory where flows are dense: where they are
// sparse, spans grow up to it.
const maxSpan = 24 * int64(time.Hour)

// errStop ends a Select early.
var errStop = errors.New("stop")

// Flows calls yield for each flow that q asks for, in order of time, until yield returns false. The flow is yield's only
// during the call; what it points to may be kept.
//
// It reads span by span from the side that q begins at, so that a limited query reads little and a long one sorts little.
func (s *Store) Flows(ctx context.Context, q query.Flows, yield func(*flow.Flow) bool) error {
	match, err := filter.Compile(q.Filter)
	if err != nil {
		return err
	}
	r, err := s.stored(ctx, q.Range)
	if err != nil || r.From >= r.To {
		return err
	}
	c := &cursor{store: s, query: q, match: match, yield: yield, decoder: newDecoder(), left: q.Limit}
	if q.Limit == 0 {
		c.left = -1
	}
	for span := bucket; r.From < r.To && c.left != 0; {
		var part query.Range
		if q.Newest {
			part = query.Range{From: max(r.From, floor(r.To-1, bucket)-span+bucket), To: r.To}
			r.To = part.From
		} else {
			part = query.Range{From: r.From, To: min(r.To, floor(r.From, bucket)+span)}
			r.From = part.To
		}
		rows, err := c.read(ctx, part)
		if errors.Is(err, errStop) {
			return nil
		}
		if err != nil {
			return err
		}
		if rows < 100_000 {
			span = min(span*2, maxSpan)
		} else {
			span = max(span/2, bucket)
		}
	}
	return nil
}

// cursor is a Flows query under way.
type cursor struct {
	store   *Store
	query   query.Flows
	match   func(*flow.Flow) bool
	yield   func(*flow.Flow) bool
	decoder *decoder
	left    int // flows still wanted; -1: all
}

// read yields the flows of r. rows is how many the store had to send.
func (c *cursor) read(ctx context.Context, r query.Range) (rows int, err error) {
	w := where{params: params{}, exact: true}
	cond := and([]string{w.within(r), w.set(c.query.Filter)})
	order := "ASC"
	if c.query.Newest {
		order = "DESC"
	}
	sql := fmt.Sprintf("SELECT %s FROM flows WHERE %s ORDER BY time %s", c.decoder.columns(), cond, order)
	if w.exact && c.left > 0 {
		sql += fmt.Sprintf(" LIMIT %d", c.left)
	}
	err = c.store.query(ctx, sql, w.params, c.decoder.results, func() error {
		rows += c.decoder.rows()
		for i := range c.decoder.rows() {
			f := c.decoder.flow(i)
			if !c.match(&f) {
				continue
			}
			if !c.yield(&f) {
				return errStop
			}
			if c.left > 0 {
				if c.left--; c.left == 0 {
					return errStop
				}
			}
		}
		return nil
	})
	return rows, err
}

// within is the condition for r. The second half is what the primary key knows.
func (w *where) within(r query.Range) string {
	return fmt.Sprintf("(time >= %s AND time < %s AND toStartOfFiveMinutes(time) BETWEEN toDateTime(%s, 'UTC') AND toDateTime(%s, 'UTC'))",
		w.params.nanos(r.From), w.params.nanos(r.To), w.params.num(floor(r.From, bucket)/1e9), w.params.num(floor(r.To, bucket)/1e9))
}

// stored narrows r to the days of which there are flows, from what the parts of the table know.
func (s *Store) stored(ctx context.Context, r query.Range) (query.Range, error) {
	var first, last proto.ColInt64
	var rows proto.ColUInt64
	p := params{}
	err := s.query(ctx, "SELECT toUnixTimestamp64Nano(min(time)), toUnixTimestamp64Nano(max(time)), count() FROM flows WHERE time >= "+p.nanos(max(r.From, 0))+
		" AND time < "+p.nanos(min(r.To, maxTime)), p, proto.Results{{Data: &first}, {Data: &last}, {Data: &rows}}, func() error { return nil })
	if err != nil || len(rows) == 0 || rows[0] == 0 {
		return query.Range{}, err
	}
	return query.Range{From: max(r.From, first[0]), To: min(r.To, last[0]+1)}, nil
}

// maxTime is the end of what DateTime64(9) can hold: the year 2262.
const maxTime = 9_223_372_036_000_000_000

// Oldest returns the time of the oldest flow, 0 if there is none.
func (s *Store) Oldest(ctx context.Context) (int64, error) {
	var first proto.ColInt64
	err := s.query(ctx, "SELECT toUnixTimestamp64Nano(min(time)) FROM flows", nil, proto.Results{{Data: &first}}, func() error { return nil })
	if err != nil || len(first) == 0 {
		return 0, err
	}
	return max(first[0], 0), nil
}

// floor is the last multiple of step that is not after t.
func floor(t, step int64) int64 {
	m := t % step
	if m < 0 {
		m += step
	}
	return t - m
}
