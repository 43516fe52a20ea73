package lab

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

const (
	readyTimeout  = 30 * time.Second
	probeTimeout  = 2 * time.Second
	probeInterval = 50 * time.Millisecond
)

// waitReady waits until each server answers in its own protocol. Like a kubelet, it asks from the pod's node.
func (r *runner) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("not ready after %v", readyTimeout))
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range r.layout.All() {
		if p.driver() {
			continue
		}
		group.Go(func() error { return r.waitPod(ctx, p) })
	}
	return group.Wait()
}

func (r *runner) waitPod(ctx context.Context, p *Endpoint) error {
	began := time.Now()
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for {
		attempt, cancel := context.WithTimeout(ctx, probeTimeout)
		err := r.probe(attempt, p)
		cancel()
		if err == nil {
			r.log.Debug("lab: pod ready", "pod", p.Key(), "took", time.Since(began).Round(time.Millisecond))
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("pod %s: %w; last answer: %w", p.Name, context.Cause(ctx), err)
		}
	}
}

// probe asks p once.
func (r *runner) probe(ctx context.Context, p *Endpoint) error {
	from := p.NetNS
	if n := r.layout.node(p.Node); n != nil {
		from = n.NetNS
	}
	address := netip.AddrPortFrom(p.Addr, p.Ports[0].Number)
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialIn(ctx, from, network, netip.AddrPort{}, address)
	}
	switch p.Ports[0].Name {
	case "dns":
		return probeDNS(ctx, dial)
	case "https":
		return probeTLS(ctx, dial)
	case "grpc":
		return probeGRPC(ctx, dial)
	case "redis":
		return probeRedis(ctx, dial)
	case "postgres":
		return probePostgres(ctx, dial)
	default:
		return probeHTTP(ctx, dial)
	}
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

func probeHTTP(ctx context.Context, dial dialFunc) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://pod/healthz", nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Transport{DialContext: dial, DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("health: %s", resp.Status)
	}
	return nil
}

func probeDNS(ctx context.Context, dial dialFunc) error {
	conn, err := dial(ctx, "udp", "")
	if err != nil {
		return err
	}
	defer conn.Close()
	question := new(dns.Msg).SetQuestion("dns.platform.svc.cluster.local.", dns.TypeA)
	_, _, err = new(dns.Client).ExchangeWithConnContext(ctx, question, &dns.Conn{Conn: conn})
	return err
}

func probeTLS(ctx context.Context, dial dialFunc) error {
	conn, err := dial(ctx, "tcp", "")
	if err != nil {
		return err
	}
	defer conn.Close()
	return tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx)
}

func probeGRPC(ctx context.Context, dial dialFunc) error {
	conn, err := grpc.NewClient("passthrough:///pod", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx, "tcp", "") }))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

func probeRedis(ctx context.Context, dial dialFunc) error {
	conn, err := dial(ctx, "tcp", "")
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if line != "+PONG\r\n" {
		return fmt.Errorf("redis: %q", line)
	}
	return nil
}

func probePostgres(ctx context.Context, dial dialFunc) error {
	config, err := pgx.ParseConfig("postgres://shop@127.0.0.1/postgres?sslmode=disable")
	if err != nil {
		return err
	}
	config.DialFunc = dial
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "SELECT 1")
	return errors.Join(err, conn.Close(ctx))
}
