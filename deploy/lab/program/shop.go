package program

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Where the services live. All names are headless: they resolve to the pods' addresses.
const (
	frontendURL  = "http://frontend.shop.svc.cluster.local:8080"
	cartURL      = "http://cart.shop.svc.cluster.local:8080"
	checkoutURL  = "http://checkout.shop.svc.cluster.local:8080"
	recommendURL = "http://recommend.shop.svc.cluster.local:8080"
	gatewayURL   = "http://gateway.edge.svc.cluster.local:8080"
	worldURL     = "http://api.example.com"
	opensslURL   = "https://tls-openssl.platform.svc.cluster.local:8443"
	tlsGoURL     = "https://tls-go.platform.svc.cluster.local:8443"
	redisAddr    = "redis.data.svc.cluster.local:6379"
	postgresAddr = "postgres.data.svc.cluster.local:5432"
	legacyAddr   = "legacy.shop.svc.cluster.local:9999" // nobody listens there
	archiveAddr  = "legacy.shop.svc.cluster.local:9998" // a firewall drops what comes
	partnerAddr  = "partner.example.net:443"            // blackholed
	backupAddr   = "backup.example.net:443"             // behind a next hop that is not there
	missingName  = "nosuch.shop.svc.cluster.local"      // NXDOMAIN
)

// patience is how long a service waits for a peer that does not answer.
const patience = 700 * time.Millisecond

// gateway is the door of the cluster: it begins each request's trace and hands it to a front end.
func gateway(ctx context.Context, p *pod) error {
	client := p.client("tcp4", true)
	return p.serve(ctx, httpPort, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.relay(w, r.WithContext(newTrace(r.Context())), client, r.Method, frontendURL+r.URL.RequestURI())
	}))
}

// frontend is the shop's page: each path asks other services.
func frontend(ctx context.Context, p *pod) error {
	once, keep := p.client("tcp4", false), p.client("tcp6", true)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		_, items, err := p.call(r.Context(), once, http.MethodGet, cartURL+"/carts/alice")
		if err != nil {
			fail(w, err)
			return
		}
		fmt.Fprintf(w, "cart: %s", items)
		p.relay(w, r, keep, http.MethodGet, recommendURL+"/for/alice")
	})
	forward := func(client *http.Client, url string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { p.relay(w, r, client, r.Method, url) }
	}
	mux.HandleFunc("GET /products/{id}", func(w http.ResponseWriter, r *http.Request) {
		p.relay(w, r, keep, http.MethodGet, recommendURL+"/products/"+r.PathValue("id"))
	})
	mux.HandleFunc("POST /cart", forward(once, cartURL+"/carts/alice/items"))
	mux.HandleFunc("POST /checkout", forward(once, checkoutURL+"/orders"))
	mux.HandleFunc("GET /legacy", forward(once, checkoutURL+"/legacy"))
	mux.HandleFunc("GET /archive", forward(once, checkoutURL+"/archive"))
	mux.HandleFunc("GET /slow", forward(keep, recommendURL+"/slow"))
	mux.HandleFunc("GET /secure", forward(keep, recommendURL+"/secure"))
	mux.HandleFunc("GET /history", forward(keep, recommendURL+"/history"))
	mux.HandleFunc("GET /partner", forward(keep, recommendURL+"/partner"))
	mux.HandleFunc("GET /backup", forward(keep, recommendURL+"/backup"))
	mux.HandleFunc("GET /error", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "template: cart.html: nil pointer", http.StatusInternalServerError)
	})
	mux.HandleFunc("GET /missing", func(w http.ResponseWriter, r *http.Request) {
		if _, err := p.resolver.LookupNetIP(r.Context(), "ip4", missingName+"."); err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
		}
	})
	return p.serve(ctx, httpPort, mux)
}

// cart keeps what is in each cart in Redis.
func cart(ctx context.Context, p *pod) error {
	db := redis.NewClient(&redis.Options{Addr: redisAddr, Dialer: func(ctx context.Context, _, addr string) (net.Conn, error) {
		return p.dial(ctx, "tcp4", addr)
	}, MaxRetries: 1, PoolSize: 4, DisableIdentity: true,
		// Its automatic mode looks the name up by the machine's own DNS.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
	defer db.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /carts/{user}", func(w http.ResponseWriter, r *http.Request) {
		items, err := db.LLen(r.Context(), "cart:"+r.PathValue("user")).Result()
		if err != nil {
			fail(w, err)
			return
		}
		fmt.Fprintf(w, "%d items\n", items)
	})
	mux.HandleFunc("POST /carts/{user}/items", func(w http.ResponseWriter, r *http.Request) {
		key := "cart:" + r.PathValue("user")
		_, err := db.Pipelined(r.Context(), func(pipe redis.Pipeliner) error {
			pipe.RPush(r.Context(), key, "book")
			pipe.LTrim(r.Context(), key, -20, -1)
			return nil
		})
		if err != nil {
			fail(w, err)
			return
		}
		w.WriteHeader(http.StatusCreated)
	})
	return p.serve(ctx, httpPort, mux)
}

// recommend asks the world, both HTTPS services, the database that policy denies it, and two peers that never answer.
func recommend(ctx context.Context, p *pod) error {
	secure, err := p.secureClients()
	if err != nil {
		return err
	}
	api := p.client("tcp4", true)
	var slow atomic.Uint64
	mux := http.NewServeMux()
	mux.HandleFunc("GET /for/{user}", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "books", r.PathValue("user")) })
	mux.HandleFunc("GET /products/{id}", func(w http.ResponseWriter, r *http.Request) {
		p.relay(w, r, api, http.MethodGet, worldURL+"/v1/products/"+r.PathValue("id")+"?key=not-a-secret")
	})
	mux.HandleFunc("GET /slow", func(w http.ResponseWriter, r *http.Request) {
		delay := 300 + slow.Add(1)*100%600 // 300 to 800 ms in turn
		if sleep(r.Context(), time.Duration(delay)*time.Millisecond) {
			io.WriteString(w, "at last\n")
		}
	})
	mux.HandleFunc("GET /secure", func(w http.ResponseWriter, r *http.Request) {
		for i, url := range []string{opensslURL, tlsGoURL} {
			if _, _, err := p.call(r.Context(), secure[i], http.MethodGet, url+"/"); err != nil {
				fail(w, err)
				return
			}
		}
	})
	mux.HandleFunc("GET /history", p.unanswered(postgresAddr))
	mux.HandleFunc("GET /partner", p.unanswered(partnerAddr))
	mux.HandleFunc("GET /backup", p.unanswered(backupAddr))
	return p.serve(ctx, httpPort, mux)
}

// unanswered tries to connect to a peer that does not answer, or that policy denies.
func (p *pod) unanswered(addr string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		conn, err := p.dial(ctx, "tcp4", addr)
		if err != nil {
			fail(w, err)
			return
		}
		conn.Close()
	}
}

// legacy is a service whose second port was closed years ago.
func legacy(ctx context.Context, p *pod) error {
	return p.serve(ctx, httpPort, http.NotFoundHandler())
}

// world is an HTTP API somewhere outside.
func world(ctx context.Context, p *pod) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/products/{id}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, "{\"id\": %q, \"title\": \"A book\"}\n", r.PathValue("id"))
	})
	return p.serve(ctx, 80, mux)
}
