// Package kubetest runs a real Kubernetes API server with its etcd for a test: on loopback ports of the kernel's choice,
// with all files in temporary folders, gone with the test.
package kubetest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/parallax-flow/parallax/internal/kubetest/apiserver"
)

// User is whom Kubeconfig speaks for: nothing is allowed to it until a role says so.
const User = apiserver.User

// Server is a running API server, as package apiserver has it.
type Server struct {
	t      testing.TB
	dir    string
	server *apiserver.Server
	api    *process
}

// Start starts etcd and the API server and waits until it is ready. Where the programs are missing the test is skipped,
// under CI it fails.
func Start(t testing.TB) *Server {
	t.Helper()
	programs, err := apiserver.Find()
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	s := &Server{t: t, dir: t.TempDir()}
	if s.server, err = apiserver.New(s.dir, programs); err != nil {
		t.Fatal(err)
	}
	etcd := start(t, filepath.Join(s.dir, "etcd.log"), s.server.Etcd())
	t.Cleanup(etcd.stop)
	t.Cleanup(s.StopAPI)
	s.StartAPI()
	return s
}

// StartAPI starts the API server again, on the same port and data, and waits until it is ready.
func (s *Server) StartAPI() {
	s.t.Helper()
	s.api = start(s.t, filepath.Join(s.dir, "kube-apiserver.log"), s.server.API())
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	if err := s.server.WaitReady(ctx, s.api.ended); err != nil {
		s.t.Fatalf("%v:\n%s", err, s.api.tail())
	}
}

// StopAPI ends the API server, as a crash would; etcd keeps what it has.
func (s *Server) StopAPI() {
	if s.api != nil {
		s.api.stop()
		s.api = nil
	}
	s.server.Close()
}

// Kubeconfig returns the path of one for User.
func (s *Server) Kubeconfig() string { return s.server.Kubeconfig() }

// process is a started program.
type process struct {
	cmd   *exec.Cmd
	log   string
	ended chan struct{}
}

func start(t testing.TB, log string, cmd *exec.Cmd) *process {
	t.Helper()
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := &process{cmd: cmd, log: log, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // gone with a test that is killed, too
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait() // killed: says so
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
