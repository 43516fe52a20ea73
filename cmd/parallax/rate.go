package main

import (
	"sync"
	"time"
)

// rateMeter turns a growing count into a rate over the last seconds, whoever asks and however often.
type rateMeter struct {
	mu    sync.Mutex
	at    time.Time
	count uint64
	rate  float64
}

const rateSpan = 3 * time.Second

func (r *rateMeter) update(now time.Time, count uint64) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch d := now.Sub(r.at); {
	case r.at.IsZero() || count < r.count:
		r.at, r.count, r.rate = now, count, 0
	case d >= rateSpan:
		r.rate = float64(count-r.count) / d.Seconds()
		r.at, r.count = now, count
	}
	return r.rate
}
