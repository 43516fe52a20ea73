package program

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	grpcPort     = 50051
	chargeMethod = "/payments.v1.Payments/Charge"
	paymentsAddr = "payments.shop.svc.cluster.local:50051"
	// Each unavailableEvery-th charge fails, and the order with it.
	unavailableEvery = 5
)

// payments is a gRPC service: slow on purpose, and every fifth time UNAVAILABLE.
func payments(ctx context.Context, p *pod) error {
	ln, err := net.Listen("tcp", p.listenAddr(grpcPort))
	if err != nil {
		return err
	}
	var charges atomic.Uint64
	charge := func(ctx context.Context, amount *wrapperspb.Int64Value) (*wrapperspb.StringValue, error) {
		n := charges.Add(1)
		sleep(ctx, time.Duration(40+n%5*20)*time.Millisecond)
		if n%unavailableEvery == 0 {
			return nil, status.Error(codes.Unavailable, "the bank is closed")
		}
		return wrapperspb.String(fmt.Sprintf("receipt %d for %d cents", n, amount.GetValue())), nil
	}
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "payments.v1.Payments",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Charge", Handler: func(_ any, ctx context.Context, decode func(any) error,
			_ grpc.UnaryServerInterceptor) (any, error) {
			amount := new(wrapperspb.Int64Value)
			if err := decode(amount); err != nil {
				return nil, err
			}
			return charge(ctx, amount)
		}}},
	}, nil)
	healthpb.RegisterHealthServer(server, health.NewServer())
	defer context.AfterFunc(ctx, server.Stop)()
	return server.Serve(ln)
}

// orders is checkout's table in PostgreSQL, on one connection that is made anew when it breaks.
type orders struct {
	pod  *pod
	mu   sync.Mutex
	conn *pgx.Conn
}

func (o *orders) add(ctx context.Context, receipt string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.conn == nil || o.conn.IsClosed() {
		if err := o.connect(ctx); err != nil {
			return err
		}
	}
	_, err := o.conn.Exec(ctx, "INSERT INTO orders (receipt) VALUES ($1)", receipt)
	return err
}

func (o *orders) connect(ctx context.Context) error {
	config, err := pgx.ParseConfig("postgres://shop@" + postgresAddr + "/postgres?sslmode=disable")
	if err != nil {
		return err
	}
	// The name goes to DialFunc unresolved: the lab's DNS knows it, the machine's does not.
	config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	config.DialFunc = func(ctx context.Context, _, addr string) (net.Conn, error) { return o.pod.dial(ctx, "tcp4", addr) }
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "CREATE TABLE IF NOT EXISTS orders (id serial PRIMARY KEY, receipt text, at timestamptz DEFAULT now())"); err != nil {
		return errors.Join(err, conn.Close(ctx))
	}
	o.conn = conn
	return nil
}

// checkout takes the money by gRPC and writes the order to PostgreSQL; an audit service that it still calls is long gone.
func checkout(ctx context.Context, p *pod) error {
	bank, err := grpc.NewClient("passthrough:///"+paymentsAddr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return p.dial(ctx, "tcp4", addr) }))
	if err != nil {
		return err
	}
	defer bank.Close()
	table := &orders{pod: p}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		call := ctx
		if header := traceparent(ctx); header != "" {
			call = metadata.AppendToOutgoingContext(ctx, "traceparent", header)
		}
		receipt := new(wrapperspb.StringValue)
		if err := bank.Invoke(call, chargeMethod, wrapperspb.Int64(1999), receipt); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		if err := table.add(ctx, receipt.GetValue()); err != nil {
			fail(w, err)
			return
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintln(w, receipt.GetValue())
	})
	mux.HandleFunc("GET /legacy", p.unanswered(legacyAddr))
	mux.HandleFunc("GET /archive", p.unanswered(archiveAddr))
	return p.serve(ctx, httpPort, mux)
}
