package main

import (
	"context"
	"sync/atomic"
	"time"
)

// rateMeter turns a growing count into a rate over the last seconds.
type rateMeter struct{ rate atomic.Uint64 } // per second, in thousandths

const rateSpan = 5 // seconds

// run samples count once a second until ctx ends.
func (r *rateMeter) run(count func() uint64) func(context.Context) error {
	return func(ctx context.Context) error {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		samples := []uint64{count()}
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			samples = append(samples, count())
			if len(samples) > rateSpan+1 {
				samples = samples[1:]
			}
			first, last := samples[0], samples[len(samples)-1]
			if last >= first { // else a node went, and its count with it
				r.rate.Store((last - first) * 1000 / uint64(len(samples)-1))
			}
		}
	}
}

// perSecond is the latest rate.
func (r *rateMeter) perSecond() float64 { return float64(r.rate.Load()) / 1000 }
