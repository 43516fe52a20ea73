package ingest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder notes what is handed over, and acknowledges each batch.
type recorder struct {
	mu     sync.Mutex
	calls  []string
	closed chan struct{}
	refuse error
}

func (r *recorder) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, fmt.Sprintf(format, args...))
}

func (r *recorder) Open(s *Stream) error {
	r.note("open %s %d", s.Node.Name, s.Node.Boot)
	s.Ack(0)
	return nil
}

func (r *recorder) Counters(_ *Stream, c *wire.Counters) error {
	r.note("counters %d", c.Produced)
	return r.refuse
}

func (r *recorder) Batch(s *Stream, b *wire.Batch, records *Records) error {
	if records == nil {
		r.note("batch %d unreadable", b.Number)
	} else {
		r.note("batch %d of %d", b.Number, len(records.Flows))
		records.Free()
	}
	s.Ack(b.Number)
	return nil
}

func (r *recorder) Closed(_ *Stream, clean bool) {
	r.note("closed %v", clean)
	close(r.closed)
}

// start serves r and returns a stream to it.
func start(t *testing.T, r *recorder) grpc.ClientStream {
	t.Helper()
	r.closed = make(chan struct{})
	l := bufconn.Listen(1 << 20)
	service, server := New(r), grpc.NewServer(Codec(), grpc.MaxRecvMsgSize(wire.MaxFrame))
	service.Register(server)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l)
	}()
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(wire.FrameCodec{})))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, wire.FullMethod)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		conn.Close()
		server.Stop()
		service.Wait()
		<-served
	})
	return stream
}

func send(t *testing.T, s grpc.ClientStream, frames ...[]byte) {
	t.Helper()
	for _, f := range frames {
		if err := s.SendMsg(&f); err != nil {
			return // the stream's status says why
		}
	}
}

func hello() []byte { return wire.AppendHello(nil, &wire.Hello{Node: "n", Boot: 7, First: 1}) }

func batch(t *testing.T, number uint64, flows, claimed int) []byte {
	t.Helper()
	b := &flow.Batch{}
	for range flows {
		b.Next().Node = &flow.Node{Name: "n", Boot: 7}
	}
	data, err := wire.NewEncoder().Encode(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	return wire.AppendBatch(nil, &wire.Batch{Number: number, Flows: claimed, Data: data})
}

// finish reads acknowledgements until the stream ends.
func finish(s grpc.ClientStream) (last uint64, err error) {
	for {
		var frame []byte
		if err := s.RecvMsg(&frame); err != nil {
			return last, err
		}
		if last, err = wire.ParseAck(frame); err != nil {
			return last, err
		}
	}
}

func TestStream(t *testing.T) {
	nodeless, err := wire.NewEncoder().Encode(nil, &flow.Batch{Flows: make([]flow.Flow, 1)})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		refuse error
		frames [][]byte
		code   codes.Code // OK: the test ends the stream
		calls  []string
	}{
		{"all is well", nil, [][]byte{hello(), batch(t, 1, 3, 3), wire.AppendCounters(nil, &wire.Counters{Produced: 3}), batch(t, 2, 0, 0)}, codes.OK,
			[]string{"open n 7", "batch 1 of 3", "counters 3", "batch 2 of 0", "closed true"}},
		{"unreadable batches are told", nil, [][]byte{
			hello(), wire.AppendBatch(nil, &wire.Batch{Number: 1, Flows: 5, Data: []byte("x")}), batch(t, 2, 3, 4),
			wire.AppendBatch(nil, &wire.Batch{Number: 3, Flows: 1, Data: nodeless}),
		}, codes.OK, []string{"open n 7", "batch 1 unreadable", "batch 2 unreadable", "batch 3 unreadable", "closed true"}},
		{"no hello", nil, [][]byte{batch(t, 1, 1, 1)}, codes.InvalidArgument, nil},
		{"newer collector", nil, [][]byte{append([]byte{'H', wire.ProtocolVersion + 1}, hello()[2:]...)}, codes.FailedPrecondition, nil},
		{"batch of a newer collector", nil, [][]byte{
			hello(), batch(t, 1, 1, 1), wire.AppendBatch(nil, &wire.Batch{Number: 2, Flows: 1, Data: []byte{'P', 'L', 'X', wire.Version + 1, 0, 0}}),
		}, codes.FailedPrecondition, []string{"open n 7", "batch 1 of 1", "closed false"}},
		{"unknown frame", nil, [][]byte{hello(), []byte("?")}, codes.InvalidArgument, []string{"open n 7", "closed false"}},
		{"empty frame", nil, [][]byte{hello(), {}}, codes.InvalidArgument, []string{"open n 7", "closed false"}},
		{"broken batch frame", nil, [][]byte{hello(), []byte("B")}, codes.InvalidArgument, []string{"open n 7", "closed false"}},
		{"refused", errors.New("no"), [][]byte{hello(), wire.AppendCounters(nil, &wire.Counters{})}, codes.Aborted,
			[]string{"open n 7", "counters 0", "closed false"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &recorder{refuse: tc.refuse}
			s := start(t, r)
			send(t, s, tc.frames...)
			if tc.code == codes.OK {
				if err := s.CloseSend(); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := finish(s); tc.code != codes.OK && status.Code(err) != tc.code {
				t.Errorf("stream ends with %v, want %v", err, tc.code)
			}
			if tc.calls != nil {
				<-r.closed
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if got, want := fmt.Sprint(r.calls), fmt.Sprint(tc.calls); got != want {
				t.Errorf("calls %v, want %v", got, want)
			}
		})
	}
}

func TestAcks(t *testing.T) {
	s := start(t, &recorder{})
	send(t, s, hello(), batch(t, 1, 1, 1), batch(t, 2, 1, 1))
	for last := uint64(0); last < 2; {
		var frame []byte
		if err := s.RecvMsg(&frame); err != nil {
			t.Fatal(err)
		}
		n, err := wire.ParseAck(frame)
		if err != nil || n < last {
			t.Fatalf("ack %d behind %d, %v", n, last, err)
		}
		last = n
	}
}
