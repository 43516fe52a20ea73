package server

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	observerpb "github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/filter"
	"github.com/parallax-flow/parallax/flow/hubble"
	"github.com/parallax-flow/parallax/flow/query"
)

const (
	batch      = 256     // flows read from the ring at a time
	newestMost = 1 << 16 // flows kept to turn newest first around, about 15 MB; who asks for more gets all there are

	// newestReach is how far storage is searched for the newest flows if since is not given: a filter that matches nothing must not read it all.
	newestReach = time.Hour
)

// request is a GetFlowsRequest that was checked.
type request struct {
	set      filter.Set
	match    func(*flow.Flow) bool
	mask     hubble.Mask
	from, to int64 // Unix ns, half open
	since    bool  // from was given
	number   uint64
	first    bool
	follow   bool
}

func parse(req *observerpb.GetFlowsRequest) (*request, error) {
	r := &request{from: math.MinInt64, to: math.MaxInt64, number: req.GetNumber(), first: req.GetFirst(), follow: req.GetFollow()}
	if r.first && r.follow {
		return nil, status.Error(codes.InvalidArgument, "first and follow exclude each other")
	}
	var err error
	if r.set, err = hubble.SetFromRequest(req); err != nil {
		return nil, err
	}
	if r.match, err = filter.Compile(r.set); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if r.mask, err = hubble.NewMask(req.GetFieldMask()); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if req.GetSince() != nil {
		r.since = true
		if r.from, err = unixNano("since", req.GetSince()); err != nil {
			return nil, err
		}
	}
	if req.GetUntil() != nil {
		if r.to, err = unixNano("until", req.GetUntil()); err != nil {
			return nil, err
		}
		if r.to < math.MaxInt64 {
			r.to++ // until is inclusive
		}
	}
	if r.from >= r.to {
		return nil, status.Error(codes.InvalidArgument, "since is later than until")
	}
	return r, nil
}

// unixNano clamps what does not fit: the years before 1678 and after 2261.
func unixNano(field string, ts *timestamppb.Timestamp) (int64, error) {
	if err := ts.CheckValid(); err != nil {
		return 0, status.Errorf(codes.InvalidArgument, "%s: %d s and %d ns is not a time", field, ts.GetSeconds(), ts.GetNanos())
	}
	switch year := ts.AsTime().Year(); {
	case year < 1678:
		return math.MinInt64, nil
	case year > 2261:
		return math.MaxInt64, nil
	}
	return ts.AsTime().UnixNano(), nil
}

func (r *request) selects(f *flow.Flow) bool {
	return f.Time >= r.from && f.Time < r.to && r.match(f)
}

// GetFlows streams flows. number counts flows that match; without first it means the newest ones, 0 means no limit. What is older
// than the ring is read from storage if since, first or a number asks for it, for a number without since within the last hour. With
// follow the stream goes on with what is new, until the client or until ends it.
func (s *Server) GetFlows(req *observerpb.GetFlowsRequest, stream observerpb.Observer_GetFlowsServer) error {
	r, err := parse(req)
	if err != nil {
		return err
	}
	ctx, cancel := s.until(stream.Context())
	defer cancel()
	out := &sender{stream: stream, mask: r.mask, ledger: s.config.Ledger}
	if err := out.nodeStatus(); err != nil {
		return err
	}
	err = s.getFlows(ctx, r, out)
	switch {
	case errors.Is(context.Cause(ctx), errStopping):
		return status.Error(codes.Unavailable, errStopping.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	}
	return err
}

func (s *Server) getFlows(ctx context.Context, r *request, out *sender) error {
	if r.first && r.number > 0 {
		out.limit = r.number
	}
	_, next := s.config.Live.Bounds()
	var err error
	switch {
	case r.follow && r.number == 0 && !r.since: // only what is new
	case r.number == 0 || r.first || r.number > newestMost:
		next, err = s.forward(ctx, r, out)
	default:
		err = s.newest(ctx, r, out, next)
	}
	if err != nil || !r.follow || out.full() {
		return err
	}
	return s.follow(ctx, r, out, next)
}

// seam is the moment from which on the ring is used: it holds all that happened since, and storage holds what was before.
func (s *Server) seam() int64 {
	if s.config.History == nil {
		return math.MinInt64
	}
	return max(s.config.Live.Complete(), s.start.UnixNano())
}

// forward sends from the oldest flow on and returns where following goes on.
func (s *Server) forward(ctx context.Context, r *request, out *sender) (uint64, error) {
	buf := make([]flow.Flow, batch)
	cursor := r.from
	stored := r.since || r.first
	for {
		if end := min(s.seam(), r.to); stored && cursor < end {
			if err := s.stored(ctx, r, query.Range{From: max(cursor, 0), To: end}, out); err != nil || out.full() {
				return 0, err
			}
			cursor = end
			continue
		}
		seq := s.config.Live.Since(cursor)
		n, first := s.config.Live.Read(seq, buf)
		if first > seq && stored && s.config.History != nil {
			continue // overtaken since the seam was asked for: storage has it by now
		}
		if err := out.flows(r, buf[:n], cursor); err != nil || out.full() || n == 0 {
			return first, err
		}
		_, end := s.config.Live.Bounds()
		return s.live(ctx, r, out, first+uint64(n), end, cursor)
	}
}

// live sends the flows of the ring from seq to end that are not older than cursor.
func (s *Server) live(ctx context.Context, r *request, out *sender, seq, end uint64, cursor int64) (uint64, error) {
	buf := make([]flow.Flow, batch)
	for seq < end {
		if err := ctx.Err(); err != nil {
			return seq, err
		}
		n, first := s.config.Live.Read(seq, buf[:min(batch, end-seq)])
		if n == 0 {
			break
		}
		if err := out.lost(first - seq); err != nil {
			return seq, err
		}
		if err := out.flows(r, buf[:n], cursor); err != nil || out.full() {
			return seq, err
		}
		seq = first + uint64(n)
	}
	return max(seq, end), nil
}

// stored sends from storage, oldest first.
func (s *Server) stored(ctx context.Context, r *request, span query.Range, out *sender) error {
	if s.config.History == nil {
		return nil
	}
	q := query.Flows{Range: span, Filter: r.set, Limit: int(min(out.limit, math.MaxInt32))}
	var sending error
	err := s.config.History.Flows(ctx, q, func(f *flow.Flow) bool {
		if r.match(f) {
			sending = out.flow(f)
		}
		return sending == nil && !out.full()
	})
	if sending != nil {
		return sending
	}
	return storedError(ctx, err)
}

func storedError(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	return status.Errorf(codes.Unavailable, "read stored flows: %v", err)
}

// newest sends the last number flows before end, which is a sequence number of the ring.
func (s *Server) newest(ctx context.Context, r *request, out *sender, end uint64) error {
	seam := s.seam()
	var found []flow.Flow // newest first
	buf := make([]flow.Flow, batch)
	for oldest, _ := s.config.Live.Bounds(); end > oldest && uint64(len(found)) < r.number; {
		if err := ctx.Err(); err != nil {
			return err
		}
		from := end - min(batch, end-oldest)
		n, first := s.config.Live.Read(from, buf[:end-from])
		if n == 0 || first >= end { // all of it was overwritten meanwhile
			break
		}
		for i := int(min(uint64(n), end-first)) - 1; i >= 0 && uint64(len(found)) < r.number; i-- {
			if buf[i].Time >= seam && r.selects(&buf[i]) {
				found = append(found, buf[i])
			}
		}
		end = from
	}
	if s.config.History != nil && uint64(len(found)) < r.number {
		var err error
		if found, err = s.newestStored(ctx, r, seam, found); err != nil {
			return err
		}
	}
	for _, f := range slices.Backward(found) {
		if err := out.flow(&f); err != nil {
			return err
		}
	}
	return nil
}

// newestStored adds to found, newest first, what storage has before the seam.
func (s *Server) newestStored(ctx context.Context, r *request, seam int64, found []flow.Flow) ([]flow.Flow, error) {
	span := query.Range{From: max(r.from, 0), To: min(seam, r.to)}
	if !r.since {
		span.From = max(span.To-int64(newestReach), 0)
	}
	if span.From >= span.To {
		return found, nil
	}
	q := query.Flows{Range: span, Filter: r.set, Limit: int(r.number) - len(found), Newest: true}
	err := s.config.History.Flows(ctx, q, func(f *flow.Flow) bool {
		if r.match(f) {
			found = append(found, *f)
		}
		return uint64(len(found)) < r.number
	})
	return found, storedError(ctx, err)
}

// follow sends what is added from seq on as soon as it is there.
func (s *Server) follow(ctx context.Context, r *request, out *sender, seq uint64) error {
	if r.to < math.MaxInt64 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, time.Unix(0, r.to))
		defer cancel()
	}
	buf := make([]flow.Flow, batch)
	out.watch()
	for {
		n, first := s.config.Live.Read(seq, buf)
		if n == 0 {
			if err := s.wait(ctx, seq); err != nil {
				if errors.Is(err, context.DeadlineExceeded) && time.Now().UnixNano() >= r.to {
					return nil
				}
				return err
			}
		} else {
			if err := out.lost(first - seq); err != nil {
				return err
			}
			if err := out.flows(r, buf[:n], math.MinInt64); err != nil {
				return err
			}
			seq = first + uint64(n)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := out.notices(); err != nil {
			return err
		}
	}
}

// wait returns when the flow seq is there, and after noticeEvery at the latest.
func (s *Server) wait(ctx context.Context, seq uint64) error {
	short, cancel := context.WithTimeout(ctx, noticeEvery)
	defer cancel()
	if err := s.config.Live.Wait(short, seq); err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return nil
}
