// Package program holds what runs in the lab's pods: small services of a shop, each a real client and a real server of its
// protocols. One program is one role; the lab starts each in a process and a network namespace of its own.
//
// A program resolves names through the lab's DNS server only, with the questions that any Go program asks.
package program

import (
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// role runs one program until ctx ends.
type role func(ctx context.Context, p *pod) error

// roles is made by a function, not kept in a variable: roles refer to each other's helpers, and nothing may change them.
func roles() map[string]role {
	return map[string]role{
		"gateway": gateway, "frontend": frontend, "cart": cart, "checkout": checkout, "payments": payments,
		"recommend": recommend, "legacy": legacy, "tls-go": tlsGo, "dns": serveDNS, "loadgen": loadgen,
		"world": world, "visitor": visitor,
	}
}

// Roles returns the names of all programs, sorted.
func Roles() []string { return slices.Sorted(maps.Keys(roles())) }

// pod is what a program knows of the place where it runs.
type pod struct {
	name string     // "shop/cart"
	addr netip.Addr // its own
	bind bool       // listen and dial with addr alone
	dns  netip.Addr
	dir  string  // the lab's files: zone.json, ca.pem
	rate float64 // requests per second, for drivers

	resolver *net.Resolver
	served   atomic.Uint64
}

// Run runs the program of that role until ctx ends, and returns nil then. args are those that the lab passes.
func Run(ctx context.Context, name string, args []string) error {
	run, ok := roles()[name]
	if !ok {
		return fmt.Errorf("lab-pod: unknown role %q: one of %s", name, strings.Join(Roles(), ", "))
	}
	p := &pod{}
	flags := flag.NewFlagSet("lab-pod "+name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the error says it
	flags.StringVar(&p.name, "name", name, "name of the pod's workload")
	flags.TextVar(&p.addr, "addr", netip.IPv4Unspecified(), "the pod's address")
	flags.BoolVar(&p.bind, "bind", false, "listen on and dial from that address alone")
	flags.TextVar(&p.dns, "dns", netip.IPv4Unspecified(), "address of the DNS server")
	flags.StringVar(&p.dir, "dir", ".", "directory of the lab's files")
	flags.Float64Var(&p.rate, "rate", 8, "requests per second")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("lab-pod: %w", err)
	}
	p.resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return p.dialer(network).DialContext(ctx, network, netip.AddrPortFrom(p.dns, 53).String())
	}}
	err := run(ctx, p)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// listenAddr returns where to listen for port.
func (p *pod) listenAddr(port uint16) string {
	if p.bind {
		return netip.AddrPortFrom(p.addr, port).String()
	}
	return fmt.Sprintf(":%d", port)
}

func (p *pod) dialer(network string) *net.Dialer {
	d := &net.Dialer{KeepAlive: -1}
	switch {
	case !p.bind:
	case strings.HasPrefix(network, "udp"):
		d.LocalAddr = &net.UDPAddr{IP: p.addr.AsSlice()}
	default:
		d.LocalAddr = &net.TCPAddr{IP: p.addr.AsSlice()}
	}
	return d
}

// dial resolves addr by the lab's DNS and connects. A network of "tcp4" or "tcp6" asks for that family's addresses alone.
func (p *pod) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if p.bind {
		network = "tcp4" // of the family of its address
	}
	family := map[string]string{"tcp": "ip", "tcp4": "ip4", "tcp6": "ip6"}[network]
	// The final dot keeps the search list of the machine's resolv.conf out of the lab.
	addrs, err := p.resolver.LookupNetIP(ctx, family, strings.TrimSuffix(host, ".")+".")
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, a := range addrs {
		conn, err := p.dialer(network).DialContext(ctx, network, net.JoinHostPort(a.Unmap().String(), port))
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// authority returns the lab's certificate authority.
func (p *pod) authority() (*x509.CertPool, error) {
	data, err := os.ReadFile(filepath.Join(p.dir, "ca.pem"))
	if err != nil {
		return nil, fmt.Errorf("read the lab's authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, errors.New("the lab's authority is no certificate")
	}
	return pool, nil
}

// client returns an HTTP client. network chooses the IP version ("tcp4", "tcp6", or "tcp" for both); keep says whether connections live on for the next
// request.
func (p *pod) client(network string, keep bool) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:         func(ctx context.Context, _, addr string) (net.Conn, error) { return p.dial(ctx, network, addr) },
			DisableKeepAlives:   !keep,
			MaxIdleConnsPerHost: 4,
			IdleConnTimeout:     5 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
