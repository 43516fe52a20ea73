package server

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/ring"
)

// follower starts a stream that the test's end ends.
func follower(t *testing.T, conn *grpc.ClientConn, req *observerpb.GetFlowsRequest) observerpb.Observer_GetFlowsClient {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	req.Follow = true
	stream, err := observerpb.NewObserverClient(conn).GetFlows(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func nextFlow(t *testing.T, stream observerpb.Observer_GetFlowsClient) (port int, lost uint64) {
	t.Helper()
	for {
		r, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		lost += r.GetLostEvents().GetNumEventsLost()
		if f := r.GetFlow(); f != nil {
			return int(f.GetL4().GetTCP().GetSourcePort()), lost
		}
	}
}

func TestFollow(t *testing.T) {
	base := time.Now()
	live := ring.New(64)
	live.Add(records(base, 1, 11))
	conn := serve(t, New(Config{Live: live}))
	stream := follower(t, conn, &observerpb.GetFlowsRequest{Number: 2, Blacklist: []*flowpb.FlowFilter{{SourcePort: []string{"12"}}}})
	for _, want := range []int{9, 10} {
		if got, _ := nextFlow(t, stream); got != want {
			t.Fatalf("backlog: got %d, want %d", got, want)
		}
	}
	// One flow at a time: each must come although none follows.
	for _, add := range []int{11, 13, 14} {
		live.Add([]flow.Flow{record(base, 12), record(base, add)})
		if got, lost := nextFlow(t, stream); got != add || lost != 0 {
			t.Fatalf("got %d (lost %d), want %d", got, lost, add)
		}
	}
}

func TestFollowUntil(t *testing.T) {
	base := time.Now().Add(-time.Minute)
	live := ring.New(64)
	live.Add(records(base, 1, 4))
	conn := serve(t, New(Config{Live: live}))
	got := collect(t, conn, &observerpb.GetFlowsRequest{Since: timestamppb.New(base), Follow: true, Until: timestamppb.New(time.Now().Add(-time.Second))})
	if diff := gocmp.Diff(numbers(1, 4), got); diff != "" {
		t.Error(diff)
	}
}

// A client that does not read is overtaken: what it gets and what it is told it lost add up exactly.
func TestSlowClientIsTold(t *testing.T) {
	base := time.Now()
	live := ring.New(64)
	live.Add(records(base, 0, 1))
	conn := serve(t, New(Config{Live: live}))
	stream := follower(t, conn, &observerpb.GetFlowsRequest{Number: 1})
	nextFlow(t, stream)
	const total = 60000 // more than the connection's buffers hold
	for from := 1; from < total; from += 50 {
		live.Add(records(base, from, min(from+50, total)))
	}
	var seen, lost uint64 = 1, 0
	for expect := 1; ; expect++ {
		port, missed := nextFlow(t, stream)
		seen++
		lost += missed
		expect += int(missed)
		if port != expect {
			t.Fatalf("got %d, want %d after %d lost", port, expect, lost)
		}
		if port == total-1 {
			break
		}
	}
	if seen+lost != total || lost == 0 {
		t.Errorf("%d seen, %d lost of %d", seen, lost, total)
	}
}

func TestStoppingEndsFollowers(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	live := ring.New(4)
	live.Add(records(time.Now(), 1, 2))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- New(Config{Live: live}).Run(ctx, listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream := follower(t, conn, &observerpb.GetFlowsRequest{Number: 1})
	nextFlow(t, stream)
	cancel()
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "the server is stopping") {
		t.Errorf("error = %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
