package lab

import (
	"time"

	"github.com/parallax-flow/parallax/flow"
)

// Fact is something that the lab's own traffic makes true again and again, for tests to look for. Fields that don't apply
// are zero. A test that needs something to be true exactly once makes it so with a Client.
type Fact struct {
	Name     string
	From, To string // workloads ("shop/cart") or hosts of the world; To is an address where nobody lives
	Port     uint16 // of To
	Proto    string // "TCP" or "UDP"

	Method, Path string        // of an HTTP request, as sent: a collector hides the values of its query
	Status       uint16        // of its answer
	Slow         time.Duration // the answer takes at least that long

	Question string // of a DNS query, with the final dot
	QType    string
	Rcode    string // of its answer

	Drop string // reason, as in the kernel's enum skb_drop_reason without its prefix, or flow.DropPolicyDenied
	At   string // the name of the node, or the workload of the pod, in whose network namespace the packet is dropped
}

// Facts returns what is true of a lab with two nodes whose collectors enforce Policies.
func Facts() []Fact {
	http := func(name, from, to, method, path string, status uint16) Fact {
		return Fact{Name: name, From: from, To: to, Port: 8080, Proto: "TCP", Method: method, Path: path, Status: status}
	}
	tcp := func(name, from, to string, port uint16) Fact {
		return Fact{Name: name, From: from, To: to, Port: port, Proto: "TCP"}
	}
	drop := func(name, from, to string, port uint16, reason, at string) Fact {
		return Fact{Name: name, From: from, To: to, Port: port, Proto: "TCP", Drop: reason, At: at}
	}
	slow := http("slow answer", "shop/frontend", "shop/recommend", "GET", "/slow", 200)
	slow.Slow = 300 * time.Millisecond
	api := http("the world's API", "shop/recommend", "api.example.com", "GET", "/v1/products/7?key=not-a-secret", 200)
	api.Port = 80
	return []Fact{
		http("front page", "edge/gateway", "shop/frontend", "GET", "/", 200),
		http("visitor from the world", "visitor.example.org", "edge/gateway", "GET", "/", 200),
		http("load from inside", "edge/loadgen", "edge/gateway", "GET", "/", 200),
		http("cart is read", "shop/frontend", "shop/cart", "GET", "/carts/alice", 200),
		http("cart is filled", "shop/frontend", "shop/cart", "POST", "/carts/alice/items", 201),
		http("order is taken", "shop/frontend", "shop/checkout", "POST", "/orders", 201),
		http("order fails: payments unavailable", "shop/frontend", "shop/checkout", "POST", "/orders", 503),
		http("server error", "edge/gateway", "shop/frontend", "GET", "/error", 500),
		http("not found", "edge/gateway", "shop/frontend", "GET", "/missing", 404),
		http("bad gateway: closed port", "shop/frontend", "shop/checkout", "GET", "/legacy", 502),
		http("gateway timeout: archive unreachable", "shop/frontend", "shop/checkout", "GET", "/archive", 504),
		http("gateway timeout: database denied", "shop/frontend", "shop/recommend", "GET", "/history", 504),
		slow, api,
		tcp("gRPC", "shop/checkout", "shop/payments", 50051),
		tcp("PostgreSQL", "shop/checkout", "data/postgres", 5432),
		tcp("Redis", "shop/cart", "data/redis", 6379),
		tcp("HTTPS, OpenSSL", "shop/recommend", "platform/tls-openssl", 8443),
		tcp("HTTPS, Go", "shop/recommend", "platform/tls-go", 8443),
		{Name: "name is resolved", From: "shop/checkout", To: "platform/dns", Port: 53, Proto: "UDP",
			Question: "legacy.shop.svc.cluster.local.", QType: "A", Rcode: "NOERROR"},
		{Name: "name does not exist", From: "shop/frontend", To: "platform/dns", Port: 53, Proto: "UDP",
			Question: "nosuch.shop.svc.cluster.local.", QType: "A", Rcode: "NXDOMAIN"},
		drop("closed port", "shop/checkout", "shop/legacy", LegacyPort, "NO_SOCKET", "shop/legacy"),
		drop("firewall", "shop/checkout", "shop/legacy", ArchivePort, "NETFILTER_DROP", "shop/legacy"),
		drop("policy", "shop/recommend", "data/postgres", 5432, flow.DropPolicyDenied, "node-b"),
		drop("next hop is dead", "shop/recommend", BackupAddr.String(), 443, "NEIGH_FAILED", "node-b"),
		// Kernels up to 6.18 at least give no better reason here; the place, ip_error, says it.
		drop("blackhole", "shop/recommend", PartnerAddr.String(), 443, "NOT_SPECIFIED", "node-b"),
	}
}
