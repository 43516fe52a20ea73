package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/parallax-flow/parallax/deploy/lab/netspace"
)

// TestLab starts one lab and checks all that it promises while it runs, and that nothing is left of it.
func TestLab(t *testing.T) {
	needRoot(t)
	keepSharedMemory(t)
	dir := testDir(t)
	l, stop := startLab(t, dir)
	c := l.Client(t.Context())
	t.Run("requests", func(t *testing.T) { testRequests(t, c) })
	t.Run("shop", func(t *testing.T) { testShop(t, c) })
	t.Run("connections", func(t *testing.T) { testConnections(t, c) })
	t.Run("names", func(t *testing.T) { testNames(t, c) })
	t.Run("another process attaches", func(t *testing.T) {
		other, err := Attach(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		same := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
		samePrefix := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
		if diff := cmp.Diff(c.Layout(), other.Layout(), same, samePrefix); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a second lab is refused", func(t *testing.T) {
		err := New(Config{Dir: dir}).Run(t.Context())
		if !errors.Is(err, ErrBusy) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v", err)
		}
		if err := Clean(dir); !errors.Is(err, ErrBusy) {
			t.Errorf("clean beside a running lab: %v", err)
		}
	})
	t.Run("the host's routes are its own", func(t *testing.T) { testHost(t, c.Layout()) })
	t.Run("a pod that dies comes back", func(t *testing.T) { testRestart(t, dir, c) })
	left := inspect(t, dir)
	stop()
	left.check(t, dir)
}

// testRequests makes requests with an answer that the caller chooses.
func testRequests(t *testing.T, c *Client) {
	recommend := c.Layout().Find("shop/recommend")
	for _, test := range []struct {
		from, url string
		status    int
		min       time.Duration
	}{
		{"shop/frontend", "http://cart.shop.svc.cluster.local:8080/e2e/a1/500", 500, 0},
		{"shop/frontend", "http://cart.shop.svc.cluster.local:8080/e2e/a2/200/150", 200, 150 * time.Millisecond},
		{"redis-0", "http://gateway.edge.svc.cluster.local:8080/e2e/a3/404", 404, 0},
		{"visitor.example.org", "http://frontend.shop.svc.cluster.local:8080/e2e/a4/302", 302, 0},
		{"shop/cart", "http://api.example.com/e2e/a5/418", 418, 0},
		{"shop/cart", fmt.Sprintf("http://[%s]:8080/e2e/a6/201", recommend.Addr6), 201, 0},
		{"edge/gateway", "https://tls-go.platform.svc.cluster.local:8443/e2e/a7/503", 503, 0},
		{"edge/gateway", "https://tls-openssl.platform.svc.cluster.local:8443/", 200, 0},
		{"shop/cart", "http://legacy.shop.svc.cluster.local:8080/e2e/a8/204", 204, 0},
	} {
		t.Run(test.url, func(t *testing.T) {
			x, err := c.Do(t.Context(), test.from, http.MethodGet, test.url)
			if err != nil {
				t.Fatal(err)
			}
			if x.Status != test.status || x.Took < test.min {
				t.Errorf("status %d after %v, want %d after %v", x.Status, x.Took, test.status, test.min)
			}
			from := c.Layout().Find(test.from)
			if a := x.Src.Addr(); a != from.Addr && a != from.Addr6 {
				t.Errorf("came from %s, not from %s", a, test.from)
			}
		})
	}
}

// testShop walks the paths of the scenario, in which what fails is a part.
func testShop(t *testing.T, c *Client) {
	for _, test := range []struct {
		method, path string
		status       int
		min          time.Duration
		body         string
	}{
		{"GET", "/", 200, 0, "books alice"},
		{"POST", "/cart", 201, 0, ""},
		{"GET", "/products/7", 200, 0, "A book"},
		{"GET", "/slow", 200, 300 * time.Millisecond, "at last"},
		{"GET", "/secure", 200, 0, ""},
		{"GET", "/error", 500, 0, "nil pointer"},
		{"GET", "/missing", 404, 0, "no such host"},
		{"GET", "/legacy", 502, 0, "connection refused"},
		{"GET", "/history", 200, 0, ""}, // nobody enforces the policies here
		{"GET", "/archive", 504, 0, "timeout"},
		{"GET", "/partner", 504, 0, "timeout"},
		{"GET", "/backup", 504, 0, "timeout"},
	} {
		t.Run(test.path, func(t *testing.T) {
			x, err := c.Do(t.Context(), "edge/loadgen", test.method, "http://gateway.edge.svc.cluster.local:8080"+test.path)
			if err != nil {
				t.Fatal(err)
			}
			if x.Status != test.status || x.Took < test.min || !strings.Contains(x.Body, test.body) {
				t.Errorf("status %d after %v, want %d after %v: %s", x.Status, x.Took, test.status, test.min, x.Body)
			}
		})
	}
	t.Run("/checkout", func(t *testing.T) {
		seen := map[int]int{}
		for range 50 { // each fifth payment fails; others pay too
			x, err := c.Do(t.Context(), "edge/loadgen", "POST", "http://gateway.edge.svc.cluster.local:8080/checkout")
			if err != nil {
				t.Fatal(err)
			}
			seen[x.Status]++
			if seen[201] > 0 && seen[503] > 0 {
				break
			}
		}
		if len(seen) != 2 || seen[201] == 0 || seen[503] == 0 {
			t.Errorf("statuses: %v", seen)
		}
	})
}

// testConnections makes the connections that fail, and shows that the very same ports serve others.
func testConnections(t *testing.T, c *Client) {
	archive := fmt.Sprintf("legacy.shop.svc.cluster.local:%d", ArchivePort)
	short := func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(t.Context(), 300*time.Millisecond)
	}
	t.Run("closed port", func(t *testing.T) {
		x, err := c.Connect(t.Context(), "shop/checkout", fmt.Sprintf("legacy.shop.svc.cluster.local:%d", LegacyPort), 40999)
		if !errors.Is(err, syscall.ECONNREFUSED) || x.Src.Port() != 40999 || x.Dst.Port() != LegacyPort {
			t.Errorf("%+v, %v", x, err)
		}
	})
	t.Run("firewall", func(t *testing.T) {
		ctx, cancel := short()
		defer cancel()
		before := dropped(t, c)
		x, err := c.Connect(ctx, "shop/checkout", archive, 41000)
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%+v, %v", x, err)
		}
		if after := dropped(t, c); after == before {
			t.Error("the firewall dropped nothing")
		}
		if _, err := c.Connect(t.Context(), "shop/recommend", archive, 0); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("from another pod: %v", err)
		}
	})
	for name, addr := range map[string]string{"blackhole": "partner.example.net:443", "dead next hop": "backup.example.net:443"} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := short()
			defer cancel()
			x, err := c.Connect(ctx, "shop/recommend", addr, 0)
			if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) || !x.Dst.IsValid() {
				t.Errorf("%+v, %v", x, err)
			}
		})
	}
	t.Run("dead next hop, waiting for the answer", func(t *testing.T) {
		_, err := c.Connect(t.Context(), "shop/cart", "backup.example.net:443", 0)
		if !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Errorf("got %v", err)
		}
	})
}

// dropped returns the counters of the archive's firewall.
func dropped(t *testing.T, c *Client) string {
	t.Helper()
	var out []byte
	err := netspace.Do(c.Layout().Find("shop/legacy").NetNS, func() (err error) {
		out, err = exec.Command("nft", "list", "ruleset").Output()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func testNames(t *testing.T, c *Client) {
	frontend := map[netip.Addr]bool{}
	for _, p := range c.Layout().Pods {
		if p.Key() == "shop/frontend" {
			frontend[p.Addr] = true
		}
	}
	for _, test := range []struct {
		name, qtype, rcode string
		addrs              int
	}{
		{"frontend.shop.svc.cluster.local", "A", "NOERROR", len(frontend)},
		{"frontend.shop.svc.cluster.local", "AAAA", "NOERROR", len(frontend)},
		{"redis-0.redis.data.svc.cluster.local", "A", "NOERROR", 1},
		{"api.example.com", "A", "NOERROR", 1},
		{"partner.example.net", "AAAA", "NOERROR", 0},
		{"e2e-4711.shop.svc.cluster.local", "A", "NXDOMAIN", 0},
	} {
		t.Run(test.name+" "+test.qtype, func(t *testing.T) {
			a, err := c.Lookup(t.Context(), "shop/frontend", test.name, test.qtype)
			if err != nil {
				t.Fatal(err)
			}
			if a.Rcode != test.rcode || len(a.Addrs) != test.addrs {
				t.Errorf("got %+v, want %s and %d addresses", a, test.rcode, test.addrs)
			}
		})
	}
}

// testHost checks that the host's own network namespace has no way into the lab.
func testHost(t *testing.T, l *Layout) {
	taken, err := takenPrefixes()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range taken {
		if l.Block.Overlaps(p) {
			t.Errorf("the host has %s, the lab %s", p, l.Block)
		}
	}
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if n := l.node(link.Attrs().Name); n != nil {
			t.Errorf("the host has the lab's link %s", n.Name)
		}
	}
}

// testRestart kills cart's program and waits for the next one.
func testRestart(t *testing.T, dir string, c *Client) {
	cart := c.Layout().Find("shop/cart")
	pid := func() int {
		s, err := readState(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range s.Processes {
			if p.Name == cart.Name {
				return p.PID
			}
		}
		return 0
	}
	old := pid()
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wait(t, "cart's next process", func() bool { p := pid(); return p != 0 && p != old })
	wait(t, "cart's next answer", func() bool {
		x, err := c.Do(t.Context(), "shop/frontend", http.MethodGet, "http://cart.shop.svc.cluster.local:8080/carts/alice")
		return err == nil && x.Status == http.StatusOK
	})
}

func wait(t *testing.T, what string, true func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !true(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// remains is what a lab must take with it.
type remains struct{ state *state }

func inspect(t *testing.T, dir string) remains {
	t.Helper()
	var s *state
	wait(t, "all processes to be on record", func() bool { // the clients begin when the servers are ready
		var err error
		if s, err = readState(dir); err != nil {
			t.Fatal(err)
		}
		return len(s.Processes) == len(s.Layout.All())
	})
	return remains{s}
}

// check looks for anything that is still there.
func (r remains) check(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Stat(workDir(dir, r.state.ID)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("files are left: %v", err)
	}
	if names, err := netspace.List(nsPrefix(r.state.ID)); err != nil || len(names) > 0 {
		t.Errorf("network namespaces are left: %v, %v", names, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), nsPrefix(r.state.ID)) {
		t.Error("mounts are left")
	}
	for _, p := range r.state.Processes {
		if start, err := startTime(p.PID); err == nil && start == p.Start {
			t.Errorf("process %d (%s) is left", p.PID, p.Name)
		}
	}
	// Children of the pods' programs (PostgreSQL's) are on no record: the directory tells them.
	dirs, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, d := range dirs {
		if cwd, err := os.Readlink(d); err == nil && strings.HasPrefix(cwd, workDir(dir, r.state.ID)) {
			t.Errorf("process %s is left in %s", d, cwd)
		}
	}
}

// keepSharedMemory checks at the end of t that PostgreSQL left nothing in the host's /dev/shm.
func keepSharedMemory(t *testing.T) {
	const files = "/dev/shm/PostgreSQL.*"
	before, _ := filepath.Glob(files)
	t.Cleanup(func() {
		after, _ := filepath.Glob(files)
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("shared memory: %s", diff)
		}
	})
}

// TestKilledLab kills a lab without warning: its programs die with it, and the next start removes the rest.
func TestKilledLab(t *testing.T) {
	needRoot(t)
	keepSharedMemory(t)
	dir := testDir(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "lab-run", dir)
	cmd.Stderr = testWriter{t}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := Attach(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	if x, err := c.Do(ctx, "shop/frontend", "GET", "http://cart.shop.svc.cluster.local:8080/e2e/k1/200"); err != nil || x.Status != 200 {
		t.Errorf("a lab in another process: %+v, %v", x, err)
	}
	left := inspect(t, dir)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for _, p := range left.state.Processes {
		wait(t, p.Name+" to die with the lab", func() bool {
			start, err := startTime(p.PID)
			return err != nil || start != p.Start
		})
	}
	if names, err := netspace.List(nsPrefix(left.state.ID)); err != nil || len(names) == 0 {
		t.Errorf("the killed lab's network namespaces: %v, %v: nothing to clean up?", names, err)
	}
	l, stop := startLab(t, dir)
	left.check(t, dir)
	if l.Layout(ctx).ID == left.state.ID {
		t.Error("the next lab has the same ID")
	}
	second := inspect(t, dir)
	stop()
	second.check(t, dir)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the lab's directory is left: %v", err)
	}
}

// TestCancelWhileStarting cancels at moments in which the lab is half made.
func TestCancelWhileStarting(t *testing.T) {
	needRoot(t)
	keepSharedMemory(t)
	dir := testDir(t)
	for _, after := range []time.Duration{0, 20 * time.Millisecond, 300 * time.Millisecond, 1500 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			l := New(Config{Dir: dir})
			if err := l.Run(ctx); err != nil {
				t.Fatal(err)
			}
			if names, err := netspace.List(nsPrefix(l.id)); err != nil || len(names) > 0 {
				t.Errorf("network namespaces are left: %v, %v", names, err)
			}
			if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the lab's directory is left: %v", err)
			}
		})
	}
}
