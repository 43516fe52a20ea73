package program

import (
	"context"
	"net/http"
	"time"
)

// step is one request of the scenario, at the gateway.
type step struct {
	method, path string
}

// scenario is what people do in the shop, over and over, in this order. What fails is a part of it.
func scenario() []step {
	home, product, put, buy := step{"GET", "/"}, step{"GET", "/products/7"}, step{"POST", "/cart"}, step{"POST", "/checkout"}
	return []step{
		home, product, put, buy, {"GET", "/slow"},
		home, product, {"GET", "/secure"}, buy, {"GET", "/legacy"},
		home, product, put, buy, {"GET", "/error"},
		home, product, put, {"GET", "/missing"}, {"GET", "/history"}, {"GET", "/archive"},
		home, product, {"GET", "/secure"}, buy, {"GET", "/partner"},
		home, product, put, buy, {"GET", "/backup"},
	}
}

const (
	// maxInFlight bounds the requests that wait for an answer; beyond, the driver waits too.
	maxInFlight = 16
	// visitorShare is how much slower visitors from outside are than the load generator inside.
	visitorShare = 4
)

// loadgen plays the scenario from inside of the cluster.
func loadgen(ctx context.Context, p *pod) error {
	return p.drive(ctx, p.rate*(1-1.0/visitorShare), p.client("tcp4", true))
}

// visitor plays it from outside, each request on a connection of its own.
func visitor(ctx context.Context, p *pod) error {
	return p.drive(ctx, p.rate/visitorShare, p.client("tcp4", false))
}

// drive plays the scenario at rate requests per second.
func (p *pod) drive(ctx context.Context, rate float64, client *http.Client) error {
	if rate <= 0 {
		return errNoRate
	}
	client.Timeout = 5 * time.Second
	tick := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer tick.Stop()
	slots := make(chan struct{}, maxInFlight)
	steps := scenario()
	for i := 0; ; i++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		go func(s step) {
			defer func() { <-slots }()
			// Its failure is what the lab is there to show.
			_, _, _ = p.call(ctx, client, s.method, gatewayURL+s.path)
		}(steps[i%len(steps)])
	}
}
