// Package ingest is the relay's end of the streams that collectors push to; flow/wire describes the protocol.
//
// One stream is one collector. Its frames are decoded here, several streams at once, and handed over one after the other. A consumer
// that blocks slows the collector by gRPC's flow control: nothing is dropped at this stage.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/wire"
)

// Handler takes what arrives. Calls for one stream come one after the other, those of different streams at the same time. An
// error ends the stream.
type Handler interface {
	Open(*Stream) error
	Counters(*Stream, *wire.Counters) error
	// Batch takes a batch with its decoded records. records is nil if they could not be decoded.
	Batch(s *Stream, b *wire.Batch, records *Records) error
	// Closed is called once for each stream that was opened, as the last call. clean says that the collector ended it.
	Closed(s *Stream, clean bool)
}

// Records are the records of a batch in memory that is used again: Free them when done.
type Records struct {
	flow.Batch
	server *Server
}

// Free gives the memory back. The records are not to be used afterwards.
func (r *Records) Free() {
	r.Reset()
	select {
	case r.server.spare <- r:
	default:
	}
}

// maxSpare bounds the memory that is kept for records to come, about a megabyte each: that of half a second of a hundred
// thousand flows per second. A sync.Pool would forget it with each garbage collection, just when there is much to do.
const maxSpare = 32

// Server serves the ingest service.
type Server struct {
	handler Handler
	spare   chan *Records
	streams sync.WaitGroup
}

// New returns a Server that hands what arrives to h.
func New(h Handler) *Server {
	return &Server{handler: h, spare: make(chan *Records, maxSpare)}
}

// Codec is to be forced on the gRPC server.
func Codec() grpc.ServerOption { return grpc.ForceServerCodec(wire.FrameCodec{}) }

// Register adds the service to a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	r.RegisterService(&grpc.ServiceDesc{
		ServiceName: wire.ServiceName,
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{
			StreamName: wire.MethodName, ClientStreams: true, ServerStreams: true,
			Handler: func(_ any, stream grpc.ServerStream) error { return s.push(stream) },
		}},
	}, s)
}

// Wait returns when no stream is served any more. Call it behind Stop of the gRPC server.
func (s *Server) Wait() { s.streams.Wait() }

// Stream is one collector's connection.
type Stream struct {
	Hello *wire.Hello
	Node  *flow.Node
	Peer  string // address of the collector

	grpc  grpc.ServerStream
	acked atomic.Uint64
	wake  chan struct{}
	ctx   context.Context
	end   context.CancelCauseFunc
}

// NewStream returns a stream that lasts as long as ctx and has no connection: the part that a Handler sees.
func NewStream(ctx context.Context, hello *wire.Hello) *Stream {
	s := &Stream{wake: make(chan struct{}, 1)}
	s.ctx, s.end = context.WithCancelCause(ctx)
	s.greet(hello)
	return s
}

func (s *Stream) greet(h *wire.Hello) {
	s.Hello = h
	if h != nil {
		s.Node = &flow.Node{Name: h.Node, Cluster: h.Cluster, Boot: h.Boot}
	}
}

// Context ends with the stream.
func (s *Stream) Context() context.Context { return s.ctx }

// Ack tells the collector that the batches up to and with number are safe. It never blocks.
func (s *Stream) Ack(number uint64) {
	s.acked.Store(number)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// End ends the stream with an error for the collector. It never blocks.
func (s *Stream) End(err error) { s.end(err) }

// push serves one stream. It returns as soon as the stream is to end; gRPC then ends the calls that are still under way.
func (s *Server) push(g grpc.ServerStream) error {
	s.streams.Add(1)
	defer s.streams.Done()
	st := NewStream(g.Context(), nil)
	st.grpc = g
	if p, ok := peer.FromContext(g.Context()); ok {
		st.Peer = p.Addr.String()
	}
	defer st.end(nil)

	s.streams.Add(1)
	go func() {
		defer s.streams.Done()
		st.end(s.receive(st))
	}()
	acked := make(chan struct{})
	go func() {
		defer close(acked)
		st.sendAcks()
	}()
	<-st.ctx.Done()
	<-acked // the last acknowledgement spares the collector a resend
	return toStatus(context.Cause(st.ctx))
}

// receive reads frames until the stream ends. The error is errClean if the collector ended it.
func (s *Server) receive(st *Stream) (err error) {
	frame, err := st.receiveFrame()
	if err != nil {
		return err
	}
	hello, err := wire.ParseHello(frame)
	if err != nil {
		return err
	}
	st.greet(hello)
	if err := s.handler.Open(st); err != nil {
		return err
	}
	defer func() { s.handler.Closed(st, errors.Is(err, errClean)) }()
	decoder := wire.NewDecoder()
	for {
		frame, err := st.receiveFrame()
		if err != nil {
			return err
		}
		if err := s.frame(st, decoder, frame); err != nil {
			return err
		}
	}
}

func (s *Server) frame(st *Stream, d *wire.Decoder, frame []byte) error {
	switch kind := wire.Kind(frame); kind {
	case wire.FrameCounters:
		c, err := wire.ParseCounters(frame)
		if err != nil {
			return err
		}
		return s.handler.Counters(st, c)
	case wire.FrameBatch:
		b, err := wire.ParseBatch(frame)
		if err != nil {
			return err
		}
		records, err := s.Decode(d, b)
		if err != nil {
			return err
		}
		return s.handler.Batch(st, b, records)
	default:
		return fmt.Errorf("frame of kind %q: %w", byte(kind), wire.ErrMalformed)
	}
}

// Decode returns the records of b, nil if they can't be read or are not what the frame says. The error is wire.ErrVersion: another
// relay will read what this one can't, so the collector has to keep it.
func (s *Server) Decode(d *wire.Decoder, b *wire.Batch) (*Records, error) {
	var r *Records
	select {
	case r = <-s.spare:
	default:
		r = &Records{server: s}
	}
	err := d.Decode(b.Data, &r.Batch)
	if errors.Is(err, wire.ErrVersion) {
		r.Free()
		return nil, err
	}
	if err != nil || len(r.Flows) != b.Flows {
		r.Free()
		return nil, nil
	}
	for i := range r.Flows {
		if r.Flows[i].Node == nil {
			r.Free()
			return nil, nil
		}
	}
	return r, nil
}

// ErrStopping ends the streams of a relay that stops.
var ErrStopping = errors.New("the relay is stopping")

// errClean is the end of a stream by the collector's wish.
var errClean = errors.New("stream ended by the collector")

func (st *Stream) receiveFrame() ([]byte, error) {
	var frame []byte
	if err := st.grpc.RecvMsg(&frame); errors.Is(err, io.EOF) {
		return nil, errClean
	} else if err != nil {
		return nil, err
	}
	return frame, nil
}

func (st *Stream) sendAcks() {
	for last := false; !last; {
		select {
		case <-st.wake:
		case <-st.ctx.Done():
			last = true
			select {
			case <-st.wake:
			default:
				return
			}
		}
		frame := wire.AppendAck(nil, st.acked.Load())
		if err := st.grpc.SendMsg(&frame); err != nil {
			st.end(err)
			return
		}
	}
}

func toStatus(err error) error {
	switch {
	case err == nil, errors.Is(err, errClean):
		return nil
	case errors.Is(err, wire.ErrVersion):
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, wire.ErrMalformed):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, ErrStopping), errors.Is(err, context.Canceled):
		return status.Error(codes.Unavailable, ErrStopping.Error())
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Aborted, err.Error())
}
