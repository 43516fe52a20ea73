package lab

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"github.com/parallax-flow/parallax/deploy/lab/netspace"
)

// Client makes single, known exchanges from inside the lab's pods, so that a test can look for exactly them. Each method names
// the pod that acts by workload ("shop/frontend": its first replica), pod name or host name. It is safe for concurrent use.
type Client struct {
	layout *Layout
	dir    string
}

// Attach returns a client of the lab that runs in dir (empty: DefaultDir), in this process or in another one. It waits until
// that lab is ready; where there is none, until one has come, or ctx ends.
func Attach(ctx context.Context, dir string) (*Client, error) {
	if dir == "" {
		dir = DefaultDir
	}
	const interval = 50 * time.Millisecond
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		s, err := readState(dir)
		if err == nil && s.Ready {
			return &Client{s.Layout, dir}, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("lab: no lab is ready in %s: %w", dir, errors.Join(ctx.Err(), err))
		}
	}
}

// Layout returns what the lab consists of.
func (c *Client) Layout() *Layout { return c.layout }

// Exchange is one connection that Client made, and what was said on it.
type Exchange struct {
	Src, Dst netip.AddrPort
	Status   int    // HTTP status; 0 where there was no HTTP
	Body     string // HTTP, at most 64 KiB
	// Trace is the W3C traceparent that the request carried.
	Trace   string
	Started time.Time
	Took    time.Duration
}

// Do resolves the host of url by one DNS query of type A and makes one request on a connection of its own. The certificate of an HTTPS
// server is not checked. Paths of the form /e2e/TOKEN/STATUS and /e2e/TOKEN/STATUS/MILLISECONDS are answered by every HTTP server
// of the lab with that status, after that time.
func (c *Client) Do(ctx context.Context, from, method, url string) (*Exchange, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	var ids [24]byte
	rand.Read(ids[:]) // never fails (crypto/rand)
	trace := fmt.Sprintf("00-%x-%x-01", ids[:16], ids[16:])
	req.Header.Set("Traceparent", trace)
	req.Header.Set("User-Agent", "parallax-lab")
	x := &Exchange{Trace: trace, Started: time.Now()}
	transport := &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // says which bytes flow, not whom to trust
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			conn, err := c.dial(ctx, from, addr, 0)
			if err == nil {
				x.Src, x.Dst = ends(conn)
			}
			return conn, err
		},
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("lab: %s %s from %s: %w", method, url, from, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("lab: %s %s from %s: %w", method, url, from, err)
	}
	x.Status, x.Body, x.Took = resp.StatusCode, string(body), time.Since(x.Started)
	return x, nil
}

// Connect makes one TCP connection to addr ("legacy.shop.svc.cluster.local:9999", or an address and a port) and closes it. sourcePort 0 leaves the
// choice to the kernel. The exchange is returned with the error too: a refused or dropped connection has its Dst, and its
// Src's port where sourcePort gave it.
func (c *Client) Connect(ctx context.Context, from, addr string, sourcePort uint16) (*Exchange, error) {
	x := &Exchange{Started: time.Now()}
	target, err := c.resolve(ctx, from, addr)
	if err != nil {
		return x, err
	}
	x.Dst = target
	if p := c.layout.Find(from); p != nil {
		x.Src = netip.AddrPortFrom(p.Addr, sourcePort)
	}
	conn, err := c.dial(ctx, from, target.String(), sourcePort)
	x.Took = time.Since(x.Started)
	if err != nil {
		return x, fmt.Errorf("lab: connect from %s to %s: %w", from, addr, err)
	}
	x.Src, x.Dst = ends(conn)
	return x, conn.Close()
}

// Answer is what the lab's DNS server said.
type Answer struct {
	Rcode string // "NOERROR", "NXDOMAIN", ...
	Addrs []netip.Addr
}

// Lookup sends the lab's DNS server one question of type qtype ("A", "AAAA") for name, by UDP.
func (c *Client) Lookup(ctx context.Context, from, name, qtype string) (*Answer, error) {
	kind, ok := dns.StringToType[qtype]
	if !ok {
		return nil, fmt.Errorf("lab: unknown DNS query type %q", qtype)
	}
	server := c.layout.Find("platform/dns")
	conn, err := c.dialAddr(ctx, from, "udp", netip.AddrPortFrom(server.Addr, 53), 0)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	question := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
	reply, _, err := new(dns.Client).ExchangeWithConnContext(ctx, question, &dns.Conn{Conn: conn})
	if err != nil {
		return nil, fmt.Errorf("lab: look up %s from %s: %w", name, from, err)
	}
	a := &Answer{Rcode: dns.RcodeToString[reply.Rcode]}
	for _, rr := range reply.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			addr, _ := netip.AddrFromSlice(rr.A.To4())
			a.Addrs = append(a.Addrs, addr)
		case *dns.AAAA:
			addr, _ := netip.AddrFromSlice(rr.AAAA)
			a.Addrs = append(a.Addrs, addr)
		}
	}
	return a, nil
}

// resolve turns host:port into an address, by one DNS query where host is a name.
func (c *Client) resolve(ctx context.Context, from, addr string) (netip.AddrPort, error) {
	if ap, err := netip.ParseAddrPort(addr); err == nil {
		return ap, nil
	}
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("lab: %w", err)
	}
	port, err := net.LookupPort("tcp", service)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("lab: %w", err)
	}
	answer, err := c.Lookup(ctx, from, host, "A")
	if err != nil {
		return netip.AddrPort{}, err
	}
	if len(answer.Addrs) == 0 {
		return netip.AddrPort{}, fmt.Errorf("lab: look up %s from %s: %s", host, from, answer.Rcode)
	}
	return netip.AddrPortFrom(answer.Addrs[0], uint16(port)), nil
}

func (c *Client) dial(ctx context.Context, from, addr string, sourcePort uint16) (net.Conn, error) {
	target, err := c.resolve(ctx, from, addr)
	if err != nil {
		return nil, err
	}
	return c.dialAddr(ctx, from, "tcp", target, sourcePort)
}

func (c *Client) dialAddr(ctx context.Context, from, network string, to netip.AddrPort, sourcePort uint16) (net.Conn, error) {
	p := c.layout.Find(from)
	if p == nil {
		return nil, fmt.Errorf("lab: no pod %q", from)
	}
	local := p.Addr
	if to.Addr().Is6() {
		local = p.Addr6
	}
	return dialIn(ctx, p.NetNS, network, netip.AddrPortFrom(local, sourcePort), to)
}

// dialIn connects inside a network namespace. An invalid local address leaves the choice to the kernel.
func dialIn(ctx context.Context, netNS, network string, local, to netip.AddrPort) (net.Conn, error) {
	dialer := net.Dialer{KeepAlive: -1}
	if local.IsValid() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(local)
		if network == "udp" {
			dialer.LocalAddr = net.UDPAddrFromAddrPort(local)
		}
	}
	var conn net.Conn
	err := netspace.Do(netNS, func() (err error) {
		conn, err = dialer.DialContext(ctx, network, to.String())
		return err
	})
	return conn, err
}

func ends(conn net.Conn) (src, dst netip.AddrPort) {
	local, _ := netip.ParseAddrPort(conn.LocalAddr().String())
	remote, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	return local, remote
}
