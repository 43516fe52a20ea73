package program

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
)

const (
	tlsPort = 8443
	dnsPort = 53
	dnsTTL  = 5 // seconds, as CoreDNS answers for cluster names
)

// tlsGo is an HTTPS service on Go's TLS, with HTTP/2 for those who ask.
func tlsGo(ctx context.Context, p *pod) error {
	host := strings.TrimSuffix(strings.TrimPrefix(tlsGoURL, "https://"), fmt.Sprintf(":%d", tlsPort))
	cert, err := tls.LoadX509KeyPair(filepath.Join(p.dir, host+".pem"), filepath.Join(p.dir, host+".key"))
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", p.listenAddr(tlsPort))
	if err != nil {
		return err
	}
	return p.serveOn(ctx, tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}}),
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "secure", r.Proto) }))
}

// secureClients returns clients of the two HTTPS services: OpenSSL's by IPv4, Go's by IPv6.
func (p *pod) secureClients() ([2]*http.Client, error) {
	pool, err := p.authority()
	if err != nil {
		return [2]*http.Client{}, err
	}
	clients := [2]*http.Client{p.client("tcp4", false), p.client("tcp6", false)}
	for _, c := range clients {
		c.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	return clients, nil
}

// zone answers questions about the lab's names.
type zone struct {
	names map[string][]netip.Addr
	turn  atomic.Uint32 // replicas are given in turn
}

// serveDNS serves the lab's names by UDP and TCP. What it does not know does not exist: there is nobody to ask.
func serveDNS(ctx context.Context, p *pod) error {
	data, err := os.ReadFile(filepath.Join(p.dir, "zone.json"))
	if err != nil {
		return err
	}
	z := &zone{}
	if err := json.Unmarshal(data, &z.names); err != nil {
		return fmt.Errorf("zone: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, network := range []string{"udp", "tcp"} {
		server := &dns.Server{Addr: p.listenAddr(dnsPort), Net: network, Handler: z}
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		ended := make(chan struct{})
		group.Go(func() error {
			defer close(ended)
			return server.ListenAndServe()
		})
		group.Go(func() error {
			select {
			case <-started:
			case <-ended:
				return nil // its error says why
			}
			<-ctx.Done()
			return server.Shutdown()
		})
	}
	return group.Wait()
}

// ServeDNS answers one question.
func (z *zone) ServeDNS(w dns.ResponseWriter, question *dns.Msg) {
	reply := new(dns.Msg).SetReply(question)
	reply.Authoritative, reply.RecursionAvailable = true, true
	if len(question.Question) != 1 {
		reply.Rcode = dns.RcodeFormatError
	} else {
		z.answer(reply, question.Question[0])
	}
	_ = w.WriteMsg(reply) // a client that went away
}

func (z *zone) answer(reply *dns.Msg, q dns.Question) {
	addrs, ok := z.names[strings.ToLower(q.Name)]
	if !ok {
		reply.Rcode = dns.RcodeNameError
	}
	header := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: dnsTTL}
	var answers []dns.RR
	for _, a := range addrs {
		switch {
		case q.Qtype == dns.TypeA && a.Is4():
			answers = append(answers, &dns.A{Hdr: header, A: a.AsSlice()})
		case q.Qtype == dns.TypeAAAA && a.Is6():
			answers = append(answers, &dns.AAAA{Hdr: header, AAAA: a.AsSlice()})
		}
	}
	if n := len(answers); n > 0 {
		first := int(z.turn.Add(1)) % n
		reply.Answer = append(answers[first:n:n], answers[:first]...)
		return
	}
	reply.Ns = []dns.RR{&dns.SOA{
		Hdr: dns.RR_Header{Name: "cluster.local.", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: dnsTTL},
		Ns:  "dns.platform.svc.cluster.local.", Mbox: "hostmaster.cluster.local.", Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: dnsTTL,
	}}
}

var errNoRate = errors.New("lab-pod: rate must be above 0")
