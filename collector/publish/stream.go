package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/parallax-flow/parallax/flow/wire"
)

// Pauses between attempts to reach the relay; each is cut at random by up to a half.
const (
	minPause = 200 * time.Millisecond
	maxPause = 5 * time.Second
)

// heartbeat is how often the counters are sent while there are no flows.
const heartbeat = time.Second

// errDone says that everything was sent and acknowledged, or given up.
var errDone = errors.New("publisher is done")

// connect keeps a stream open until the publisher is drained or ctx ends.
func (p *Publisher) connect(ctx context.Context) {
	pause := minPause
	for first := true; ; first = false {
		err := p.stream(ctx)
		was := p.set(state{err: err})
		if p.finished() || ctx.Err() != nil {
			return
		}
		if was.connected {
			pause = minPause
		}
		if first || was.connected {
			p.config.Log.Warn("no connection to the relay, trying again", "relay", p.config.Target, "error", err)
		}
		if p.sleep(ctx, pause/2+rand.N(pause/2)) {
			return
		}
		pause = min(pause*2, maxPause)
	}
}

// sleep waits for d and reports whether the publisher has nothing more to do.
func (p *Publisher) sleep(ctx context.Context, d time.Duration) (finished bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return false
		case <-ctx.Done():
			return true
		case <-p.queued:
			if p.finished() {
				return true
			}
		}
	}
}

func (p *Publisher) set(s state) (was state) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, p.state = p.state, s
	return was
}

// finished reports whether draining has come to its end.
func (p *Publisher) finished() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.draining && (p.abandoned || len(p.queue.batches) == 0)
}

// stream serves one connection. The error is never nil. A connection of its own for each attempt keeps the pauses ours.
func (p *Publisher) stream(ctx context.Context) error {
	options := append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(wire.FrameCodec{}), grpc.MaxCallSendMsgSize(wire.MaxFrame)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
	}, p.config.DialOptions...)
	conn, err := grpc.NewClient("passthrough:///"+p.config.Target, options...)
	if err != nil {
		return fmt.Errorf("relay %s: %w", p.config.Target, err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	desc := &grpc.StreamDesc{StreamName: wire.MethodName, ClientStreams: true, ServerStreams: true}
	s, err := conn.NewStream(ctx, desc, wire.FullMethod)
	if err != nil {
		return err
	}
	if err := p.greet(s); err != nil {
		return err
	}
	p.set(state{connected: true})
	p.config.Log.Info("connected to the relay", "relay", p.config.Target)

	received := make(chan struct{})
	go func() {
		defer close(received)
		cancel(p.receive(s))
	}()
	err = p.send(ctx, s)
	if errors.Is(err, errDone) && s.CloseSend() == nil {
		<-received // the relay has read all of it
	}
	cancel(err)
	<-received
	if errors.Is(err, context.Canceled) {
		err = context.Cause(ctx)
	}
	return err
}

// greet says hello and takes the first acknowledgement: what the relay holds already is not sent again.
func (p *Publisher) greet(s grpc.ClientStream) error {
	p.mu.Lock()
	node := p.config.Node
	hello := &wire.Hello{
		Node: node.Name, Cluster: node.Cluster, Boot: node.Boot, Version: p.config.Version, First: p.queue.first(), Acked: p.queue.acked,
	}
	p.mu.Unlock()
	frame := wire.AppendHello(nil, hello)
	if err := s.SendMsg(&frame); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := p.receiveAck(s); err != nil {
		return err
	}
	p.mu.Lock()
	p.queue.rewind()
	p.mu.Unlock()
	return nil
}

func (p *Publisher) receive(s grpc.ClientStream) error {
	for {
		if err := p.receiveAck(s); err != nil {
			return err
		}
	}
}

func (p *Publisher) receiveAck(s grpc.ClientStream) error {
	var frame []byte
	if err := s.RecvMsg(&frame); err != nil {
		return err
	}
	number, err := wire.ParseAck(frame)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.queue.ack(number)
	p.mu.Unlock()
	signal(p.queued) // draining may be at its end
	return nil
}

// send sends what is queued, and the counters from time to time, until the stream ends or the publisher is drained.
func (p *Publisher) send(ctx context.Context, s grpc.ClientStream) error {
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		frame := p.nextFrame()
		finished := frame == nil && p.finished()
		if frame == nil && !finished {
			select {
			case <-p.queued:
				continue
			case <-beat.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if frame == nil {
			frame = p.countersFrame()
		}
		if err := s.SendMsg(&frame); errors.Is(err, io.EOF) {
			<-ctx.Done() // the receiver learns why
			return ctx.Err()
		} else if err != nil {
			return err
		}
		if finished {
			return errDone
		}
	}
}

// nextFrame returns nil if there is nothing to send.
func (p *Publisher) nextFrame() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.queue.take()
	if b == nil {
		return nil
	}
	frame := make([]byte, 0, len(b.data)+512)
	return wire.AppendBatch(frame, &wire.Batch{Counters: p.counters(), Number: b.number, Flows: b.flows, Data: b.data})
}

func (p *Publisher) countersFrame() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.counters()
	return wire.AppendCounters(nil, &c)
}
