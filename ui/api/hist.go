package api

import "math"

// hist is a histogram of latencies with logarithmic bins: a bin's bounds differ by 15 %, so a quantile is right to 7.5 %.
type hist struct {
	bins  [histBins]uint32
	count uint64
}

const (
	histBins  = 128
	histFloor = 1e3 // ns: everything faster is in the first bin; the last one begins at 54 s
	histRatio = 1.15
)

var histLog = math.Log(histRatio)

func (h *hist) add(ns int64) {
	i := 0
	if ns > histFloor {
		i = min(int(math.Log(float64(ns)/histFloor)/histLog)+1, histBins-1)
	}
	h.bins[i]++
	h.count++
}

func (h *hist) merge(o *hist) {
	for i, n := range o.bins {
		h.bins[i] += n
	}
	h.count += o.count
}

// quantile returns the middle of the bin that holds the q-quantile in ns, -1 without data. A nil hist has none.
func (h *hist) quantile(q float64) int64 {
	if h == nil || h.count == 0 {
		return -1
	}
	rank := uint64(math.Ceil(q * float64(h.count)))
	var seen uint64
	for i, n := range h.bins {
		if seen += uint64(n); seen >= rank && n > 0 {
			return int64(histFloor * math.Pow(histRatio, float64(i)-0.5))
		}
	}
	return -1
}
