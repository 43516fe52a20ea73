// Package apiserver knows how to run a real Kubernetes API server with its etcd on one machine: on loopback ports of the
// kernel's choice, with all files in one folder, RBAC on, no controllers and no kubelet, so that objects are exactly what
// somebody writes. Who starts the programs, and ends them, is the caller's business.
package apiserver

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// Version is that of the API server: tools/kube-apiserver/go.mod has the same.
const Version = "1.36.3"

const (
	adminToken = "parallax-admin" // in the group system:masters, to which everything is allowed
	userToken  = "parallax-user"

	// User is whom Kubeconfig speaks for: nothing is allowed to it until a role says so.
	User = "parallax"
)

// Programs are the paths of what runs.
type Programs struct{ Etcd, API string }

// Find looks for the programs. Its error says in one line how to get what is missing.
func Find() (Programs, error) {
	var p Programs
	var err error
	if p.Etcd, err = exec.LookPath("etcd"); err != nil {
		return p, errors.New("etcd not found: apt-get install -y etcd-server")
	}
	cache := os.Getenv("PARALLAX_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return p, fmt.Errorf("look for kube-apiserver: %w: set PARALLAX_CACHE", err)
		}
		cache = filepath.Join(home, ".cache/parallax")
	}
	p.API = filepath.Join(cache, "kube-apiserver-"+Version, "kube-apiserver")
	if _, err := os.Stat(p.API); err != nil {
		return p, fmt.Errorf("kube-apiserver %s not found in %s: build it with scripts/install-tool.sh kube-apiserver (some minutes, once)", Version, cache)
	}
	return p, nil
}

// Server is one API server with its etcd, running or not.
type Server struct {
	*Client // may do everything

	dir      string
	programs Programs
	etcd     string // client URL
	peer     string
	port     string
}

// New writes the files that the programs need to dir, which exists, and chooses ports.
func New(dir string, programs Programs) (*Server, error) {
	pool, err := writeCertificate(dir)
	if err != nil {
		return nil, fmt.Errorf("certificate of the API server: %w", err)
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, fmt.Errorf("ports for the API server: %w", err)
	}
	s := &Server{
		dir: dir, programs: programs, etcd: "http://127.0.0.1:" + ports[0], peer: "http://127.0.0.1:" + ports[1], port: ports[2],
		Client: newClient("https://127.0.0.1:"+ports[2], adminToken, pool),
	}
	tokens := adminToken + ",admin,1,system:masters\n" + userToken + "," + User + ",2\n"
	if err := cmp.Or(
		os.WriteFile(s.file("tokens"), []byte(tokens), 0o600),
		os.WriteFile(s.file(KubeconfigFile), s.kubeconfig(User, userToken), 0o600),
		os.WriteFile(s.file(adminConfig), s.kubeconfig("admin", adminToken), 0o600),
	); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Server) file(name string) string { return filepath.Join(s.dir, name) }

// EtcdURL is where etcd listens for clients.
func (s *Server) EtcdURL() string { return s.etcd }

// Kubeconfig is the path of one for User.
func (s *Server) Kubeconfig() string { return s.file(KubeconfigFile) }

// AdminKubeconfig is the path of one for somebody who may do everything.
func (s *Server) AdminKubeconfig() string { return s.file(adminConfig) }

// Names of the kubeconfigs in a server's folder.
const (
	KubeconfigFile = "kubeconfig"
	adminConfig    = "admin.kubeconfig"
)

func (s *Server) kubeconfig(user, token string) []byte {
	return fmt.Appendf(nil, `{"apiVersion": "v1", "kind": "Config", "current-context": "lab",
"contexts": [{"name": "lab", "context": {"cluster": "lab", "user": %q}}],
"clusters": [{"name": "lab", "cluster": {"server": %q, "certificate-authority": %q}}],
"users": [{"name": %q, "user": {"token": %q}}]}
`, user, s.base, s.file(certFile), user, token)
}

// Etcd returns the command that runs etcd. What it stores survives the program, though not the machine: nothing is synced.
func (s *Server) Etcd() *exec.Cmd {
	cmd := exec.Command(s.programs.Etcd, "--data-dir", s.file("etcd"), "--listen-client-urls", s.etcd, "--advertise-client-urls", s.etcd,
		"--listen-peer-urls", s.peer, "--initial-advertise-peer-urls", s.peer, "--initial-cluster", "default="+s.peer, "--unsafe-no-fsync")
	cmd.Dir = s.dir
	return cmd
}

// API returns the command that runs the API server, on the same port each time. It waits for etcd, but not for long.
func (s *Server) API() *exec.Cmd {
	cmd := exec.Command(s.programs.API, "--etcd-servers", s.etcd, "--bind-address", "127.0.0.1", "--secure-port", s.port,
		"--tls-cert-file", s.file(certFile), "--tls-private-key-file", s.file(keyFile),
		"--service-account-issuer", "https://parallax.test", "--service-account-key-file", s.file(keyFile), "--service-account-signing-key-file", s.file(keyFile),
		"--service-cluster-ip-range", "10.96.0.0/16,fd96::/112", "--authorization-mode", "RBAC", "--token-auth-file", s.file("tokens"),
		"--disable-admission-plugins", "ServiceAccount", "--endpoint-reconciler-type", "none", "--allow-privileged")
	cmd.Dir = s.dir
	return cmd
}

// freePorts returns ports that nobody listens on.
func freePorts(n int) ([]string, error) {
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // only when all are chosen, so that they differ
		ports = append(ports, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return ports, nil
}

// Attach returns a client of the server whose files are in dir, which may do everything.
func Attach(dir string) (*Client, error) {
	text, err := os.ReadFile(filepath.Join(dir, adminConfig))
	if err != nil {
		return nil, err
	}
	server, err := serverOf(text)
	if err != nil {
		return nil, err
	}
	cert, err := os.ReadFile(filepath.Join(dir, certFile))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return newClient(server, adminToken, pool), nil
}
