package lab

// Port is a port on which a pod listens.
type Port struct {
	Name   string `json:"name"`
	Number uint16 `json:"number"`
	Proto  string `json:"proto"` // "TCP" or "UDP"
}

// workload is one line of the table of what runs in the lab: what a Deployment or StatefulSet says in a Kubernetes cluster.
type workload struct {
	namespace, name, kind string
	role                  string // program: see program.Roles, or redis, postgres, tls-openssl
	tier                  string
	nodes                 []int // one replica on each, modulo the number of nodes
	ports                 []Port
}

func tcp(name string, number uint16) []Port { return []Port{{name, number, "TCP"}} }

// workloads is the lab's cluster. The order gives the addresses.
var workloads = []workload{
	{"platform", "dns", "Deployment", "dns", "infra", []int{0}, []Port{{"dns", 53, "UDP"}, {"dns-tcp", 53, "TCP"}}},
	{"platform", "tls-openssl", "Deployment", "tls-openssl", "infra", []int{0}, tcp("https", 8443)},
	{"platform", "tls-go", "Deployment", "tls-go", "infra", []int{1}, tcp("https", 8443)},
	{"edge", "gateway", "Deployment", "gateway", "edge", []int{0}, tcp("http", 8080)},
	{"edge", "loadgen", "Deployment", "loadgen", "edge", []int{1}, nil},
	{"shop", "frontend", "Deployment", "frontend", "web", []int{0, 1}, tcp("http", 8080)},
	{"shop", "cart", "Deployment", "cart", "backend", []int{0}, tcp("http", 8080)},
	{"shop", "checkout", "Deployment", "checkout", "backend", []int{1}, tcp("http", 8080)},
	{"shop", "payments", "Deployment", "payments", "backend", []int{0}, tcp("grpc", 50051)},
	{"shop", "recommend", "Deployment", "recommend", "backend", []int{1}, tcp("http", 8080)},
	{"shop", "legacy", "Deployment", "legacy", "backend", []int{0}, tcp("http", 8080)},
	{"data", "redis", "StatefulSet", "redis", "data", []int{1}, tcp("redis", 6379)},
	{"data", "postgres", "StatefulSet", "postgres", "data", []int{1}, tcp("postgres", 5432)},
}

// outside are the hosts of the world: no pods, not known to any metadata source.
var outside = []workload{
	{"", "api.example.com", "", "world", "", nil, tcp("http", 80)},
	{"", "visitor.example.org", "", "visitor", "", nil, nil},
}
