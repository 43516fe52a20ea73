package observe

import (
	"errors"
	"fmt"
	"math"
	"time"

	observerpb "github.com/cilium/cilium/api/v1/observer"
	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parallax-flow/parallax/flow/hubble"
)

// defaultLast is how many flows are shown if nothing else is asked for.
const defaultLast = 20

// Options are the flags of `parallax observe`.
type Options struct {
	Filters
	Follow       bool
	Last, First  uint64
	All          bool
	Since, Until string
	Secondary    bool
	Print        PrintOptions
}

// Register adds all flags to flags.
func (o *Options) Register(flags *pflag.FlagSet) {
	flags.BoolVarP(&o.Follow, "follow", "f", false, "go on with what is new")
	flags.Uint64Var(&o.Last, "last", 0, fmt.Sprintf("newest flows, so many, not older than an hour without --since (default %d, with --follow 0)", defaultLast))
	flags.Uint64Var(&o.First, "first", 0, "oldest flows, so many")
	flags.BoolVar(&o.All, "all", false, "all flows that the server has in memory")
	flags.StringVar(&o.Since, "since", "", "flows since a time: 5m, 1h30m, 2006-01-02, 15:04:05, 2006-01-02T15:04:05Z")
	flags.StringVar(&o.Until, "until", "", "flows until a time, as --since")
	flags.BoolVar(&o.Secondary, "secondary", false, "also observations of traffic that is already shown from another point (beyond Hubble)")
	o.Filters.Register(flags)
	o.Print.register(flags)
}

// Request returns what the flags ask for. Its errors are mistakes in the flags.
func (o *Options) Request(now time.Time) (*observerpb.GetFlowsRequest, error) {
	if err := o.conflicts(); err != nil {
		return nil, err
	}
	o.Print.hold = !o.Follow
	req := &observerpb.GetFlowsRequest{Number: o.Last, Follow: o.Follow}
	if o.First > 0 {
		req.Number, req.First = o.First, true
	}
	for _, t := range []struct {
		flag, text string
		to         **timestamppb.Timestamp
	}{{"since", o.Since, &req.Since}, {"until", o.Until, &req.Until}} {
		if t.text == "" {
			continue
		}
		at, err := parseTime(t.text, now)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", t.flag, err)
		}
		*t.to = timestamppb.New(at)
	}
	switch {
	case o.All:
		req.Number = math.MaxUint64
	case req.Number == 0 && req.Since == nil && req.Until == nil && !o.Follow:
		req.Number = defaultLast
	}
	allow, deny, extra, err := o.Build()
	if err != nil {
		return nil, err
	}
	extra.Secondary = o.Secondary
	req.Whitelist, req.Blacklist = allow, deny
	if req.Extensions, err = extra.ToProto(); err != nil {
		return nil, err
	}
	if _, err := hubble.SetFromRequest(req); err != nil {
		return nil, err
	}
	return req, nil
}

func (o *Options) conflicts() error {
	switch {
	case o.First > 0 && o.Last > 0:
		return errors.New("--first and --last cannot be combined")
	case o.First > 0 && o.Follow:
		return errors.New("--first and --follow cannot be combined: use --last, or --since")
	case o.All && (o.First > 0 || o.Last > 0 || o.Since != "" || o.Until != ""):
		return errors.New("--all cannot be combined with --first, --last, --since or --until")
	case o.Until != "" && o.Follow:
		return errors.New("--until and --follow cannot be combined")
	case o.Follow && o.Print.Output == "table":
		return errors.New("-o table cannot follow: its columns are as wide as what they will hold; use compact, dict or json")
	}
	return o.Print.check()
}

// timeLayouts are tried in this order; those without a zone are local time, those without a date today.
var timeLayouts = []string{
	time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02",
	"2006-01-02T15Z07:00", "2006-01-02T15:04Z07:00", time.RFC1123Z, time.StampMilli,
}

// parseTime reads a time, or a duration before now.
func parseTime(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		if d < 0 {
			return time.Time{}, fmt.Errorf("%q is in the future", s)
		}
		return now.Add(-d), nil
	}
	for _, layout := range timeLayouts {
		t, err := time.ParseInLocation(layout, s, now.Location())
		if err != nil {
			continue
		}
		if t.Year() == 0 { // time.StampMilli has none
			t = time.Date(now.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), now.Location())
		}
		return t, nil
	}
	for _, layout := range []string{"15:04:05", "15:04"} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), now.Location()), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is neither a duration (5m) nor a time (15:04:05, 2006-01-02, 2006-01-02T15:04:05Z)", s)
}
