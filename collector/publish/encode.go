package publish

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/wire"
)

// encode turns batches that are full, or old, into messages until ctx ends, then what is left.
func (p *Publisher) encode(ctx context.Context) {
	e := wire.NewEncoder()
	age := time.NewTicker(p.config.BatchAge)
	defer age.Stop()
	for {
		select {
		case <-p.full:
			p.encodeFilled(e, false)
		case <-age.C:
			p.encodeFilled(e, true)
		case <-ctx.Done():
			p.encodeFilled(e, true)
			return
		}
	}
}

// encodeFilled encodes the batches that are full, and with all set also the open one.
func (p *Publisher) encodeFilled(e *wire.Encoder, all bool) {
	for {
		p.mu.Lock()
		if len(p.filled) == 0 && all && (len(p.open.flows) > 0 || len(p.untold) > 0) {
			p.closeOpen()
			all = false
		}
		if len(p.filled) == 0 {
			p.mu.Unlock()
			return
		}
		b := p.filled[0]
		p.filled = slices.Delete(p.filled, 0, 1)
		lost := slices.Collect(maps.Values(p.untold))
		clear(p.untold)
		p.mu.Unlock()

		p.seal(e, b.flows, lost)

		clear(b.flows)
		b.flows = b.flows[:0]
		p.mu.Lock()
		if len(p.spare) < maxFull {
			p.spare = append(p.spare, b)
		}
		p.mu.Unlock()
	}
}

// seal encodes flows, in several messages if one would be too large, and queues them.
func (p *Publisher) seal(e *wire.Encoder, flows []flow.Flow, lost []flow.Lost) {
	data, err := e.Encode(nil, &flow.Batch{Flows: flows, Lost: lost})
	if err != nil && len(flows) > 1 {
		p.seal(e, flows[:len(flows)/2], lost)
		p.seal(e, flows[len(flows)/2:], nil)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		for _, l := range lost {
			p.tell(l)
		}
		p.lose(p.overflow(len(flows), "one flow is larger than a message"))
		return
	}
	for _, dropped := range p.queue.add(&sealed{flows: len(flows), data: slices.Clip(data), lost: lost}, p.config.MaxBytes) {
		p.drop(dropped, "queue to the relay is full")
	}
	signal(p.queued)
}

// drop counts a batch that left the queue unsent. Call it with mu held.
func (p *Publisher) drop(b *sealed, reason string) {
	for _, l := range b.lost {
		p.tell(l)
	}
	if b.flows > 0 {
		p.lose(p.overflow(b.flows, reason))
	}
}
