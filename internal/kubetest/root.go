// Package kubetest runs a real Kubernetes API server with its etcd for a test: on loopback ports of the kernel's choice,
// with all files in temporary folders, gone with the test.
package kubetest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"
)

const (
	adminToken = "parallax-admin"
	userToken  = "parallax-user"

	// User is whom Kubeconfig speaks for: nothing is allowed to it until a role says so.
	User = "parallax"
)

// Server is a running API server: version as in tools/kube-apiserver, RBAC on, no controllers and no kubelet, so that
// objects are exactly what the test writes.
type Server struct {
	t      testing.TB
	dir    string
	binary string
	etcd   string // client URL
	addr   string // host:port
	http   *http.Client
	api    *process
}

// Start starts etcd and the API server and waits until it is ready. Where the programs are missing the test is skipped,
// under CI it fails.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, dir: t.TempDir(), binary: apiserver(t)}
	etcd, err := exec.LookPath("etcd")
	if err != nil {
		missing(t, "etcd is missing: run scripts/deps.sh test")
	}
	ca, err := writeCertificate(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca}}
	s.http = &http.Client{Transport: transport, Timeout: 30 * time.Second}
	t.Cleanup(transport.CloseIdleConnections)
	if err := os.WriteFile(s.file("tokens"), []byte(adminToken+",admin,1,system:masters\n"+userToken+","+User+",2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 3)
	s.etcd, s.addr = "http://127.0.0.1:"+ports[0], "127.0.0.1:"+ports[2]
	peer := "http://127.0.0.1:" + ports[1]
	p := start(t, s.file("etcd.log"), etcd, "--data-dir", s.file("etcd"), "--listen-client-urls", s.etcd, "--advertise-client-urls", s.etcd,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
	t.Cleanup(p.stop)
	t.Cleanup(s.StopAPI)
	s.StartAPI()
	return s
}

func (s *Server) file(name string) string { return filepath.Join(s.dir, name) }

// StartAPI starts the API server again, on the same port and data, and waits until it is ready.
func (s *Server) StartAPI() {
	s.t.Helper()
	_, port, _ := net.SplitHostPort(s.addr)
	s.api = start(s.t, s.file("kube-apiserver.log"), s.binary, "--etcd-servers", s.etcd, "--bind-address", "127.0.0.1", "--secure-port", port,
		"--tls-cert-file", s.file("cert.pem"), "--tls-private-key-file", s.file("key.pem"),
		"--service-account-issuer", "https://parallax.test", "--service-account-key-file", s.file("key.pem"), "--service-account-signing-key-file", s.file("key.pem"),
		"--service-cluster-ip-range", "10.96.0.0/16", "--authorization-mode", "RBAC", "--token-auth-file", s.file("tokens"),
		"--disable-admission-plugins", "ServiceAccount", "--endpoint-reconciler-type", "none", "--allow-privileged")
	s.await()
}

// StopAPI ends the API server, as a crash would; etcd keeps what it has.
func (s *Server) StopAPI() {
	if s.api != nil {
		s.api.stop()
		s.api = nil
	}
	s.http.CloseIdleConnections()
}

// await waits until the API server is ready.
func (s *Server) await() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		if code, _, err := s.request(ctx, http.MethodGet, "/readyz", "", nil); err == nil && code == http.StatusOK {
			return
		}
		select {
		case <-tick.C:
		case <-s.api.ended:
			s.t.Fatalf("kube-apiserver ended:\n%s", s.api.tail())
		case <-ctx.Done():
			s.t.Fatalf("kube-apiserver is not ready:\n%s", s.api.tail())
		}
	}
}

// Kubeconfig writes one for User and returns its path.
func (s *Server) Kubeconfig() string {
	s.t.Helper()
	path := s.file("kubeconfig")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: test,
contexts: [{name: test, context: {cluster: test, user: %s}}],
clusters: [{name: test, cluster: {server: "https://%s", certificate-authority: %s}}],
users: [{name: %s, user: {token: %s}}]}
`, User, s.addr, s.file("cert.pem"), User, userToken)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// process is a started program.
type process struct {
	cmd   *exec.Cmd
	log   string
	ended chan struct{}
}

func start(t testing.TB, log, name string, args ...string) *process {
	t.Helper()
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := &process{cmd: exec.Command(name, args...), log: log, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = f, f, filepath.Dir(log)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // gone with a test that is killed, too
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // killed: says so
	}()
	return p
}

func (p *process) stop() {
	_ = p.cmd.Process.Kill() // has ended already: nothing to do
	<-p.ended
}

// tail is the end of what p said.
func (p *process) tail() []byte {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return []byte(err.Error())
	}
	return text[max(0, len(text)-4000):]
}

// freePorts returns ports that nobody listens on.
func freePorts(t testing.TB, n int) []string {
	t.Helper()
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // only when all are chosen, so that they differ
		ports = append(ports, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return ports
}

// apiserver returns the path of what scripts/install-kube-apiserver.sh built.
func apiserver(t testing.TB) string {
	t.Helper()
	mod := repositoryFile(t, "tools/kube-apiserver/go.mod")
	version := regexp.MustCompile(`k8s\.io/kubernetes v([0-9.]+)`).FindSubmatch(mod)
	if version == nil {
		t.Fatal("tools/kube-apiserver/go.mod names no version of k8s.io/kubernetes")
	}
	cache := os.Getenv("PARALLAX_CACHE")
	if cache == "" {
		cache = filepath.Join(os.Getenv("HOME"), ".cache/parallax")
	}
	path := filepath.Join(cache, "kube-apiserver-"+string(version[1]), "kube-apiserver")
	if _, err := os.Stat(path); err != nil {
		missing(t, fmt.Sprintf("%v: run scripts/install-kube-apiserver.sh", err))
	}
	return path
}

// repositoryFile reads a file of this repository; a test runs in the folder of its package.
func repositoryFile(t testing.TB, name string) []byte {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			return text
		}
		if dir == "/" {
			t.Fatalf("%s: in none of the folders above this test", name)
		}
	}
}

func missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}
