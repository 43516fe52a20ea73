package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/parallax-flow/parallax/deploy/lab"
	"github.com/parallax-flow/parallax/internal/tool"
	"github.com/parallax-flow/parallax/storage/embedded"
)

// TestEndToEnd runs the whole product with the lab and looks at exact facts of the traffic through everything that a person
// has: CLI, Hubble's API, SQL, the page in Chromium, the metrics, and the past after a restart.
func TestEndToEnd(t *testing.T) {
	needRoot(t)
	p := newProduct(t)
	const dir = "/run/parallax/e2e"        // of its own, so that a demo may run beside; PostgreSQL's user must be able to enter it
	if err := lab.Clean(dir); err != nil { // what a killed run before this one may have left
		t.Fatal(err)
	}
	p.start("--demo", "--demo-dir", dir)
	p.waitObserving()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	client, err := lab.Attach(ctx, dir)
	if err != nil {
		t.Fatalf("%v\n%s", err, p.log.String())
	}
	id := "plx-" + client.Layout().ID
	if len(footprint(t, id)) == 0 {
		t.Fatal("the lab leaves no trace while it runs: this test cannot see what it would leave behind")
	}
	f := makeTraffic(ctx, t, client)
	p.waitStored(ctx, f.token)

	t.Run("CLI", func(t *testing.T) { p.testCLI(t, f) })
	t.Run("hubble", func(t *testing.T) { p.testHubble(t) })
	t.Run("Observer", func(t *testing.T) { p.testObserver(ctx, t, f) })
	t.Run("page", func(t *testing.T) { p.testPage(ctx, t, f) })
	t.Run("metrics", func(t *testing.T) { p.testMetrics(t) })
	t.Run("ledger", func(t *testing.T) { p.testLedger(t) })

	p.stop()
	t.Run("nothing left", func(t *testing.T) {
		if left := footprint(t, id); len(left) > 0 {
			t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v, want it gone", dir, err)
		}
	})
	t.Run("SQL", func(t *testing.T) { p.testSQL(ctx, t, f) })
	t.Run("history after a restart", func(t *testing.T) {
		p.start()
		p.testHistory(ctx, t, f)
		p.stop()
	})
}

// traffic is what the test did in the lab, to be found again.
type traffic struct {
	token   string
	ok, bad *lab.Exchange
	refused *lab.Exchange
	nx      string
}

func makeTraffic(ctx context.Context, t *testing.T, c *lab.Client) *traffic {
	t.Helper()
	f := &traffic{token: "tok" + strings.ToLower(rand.Text()[:10])}
	var err error
	if f.ok, err = c.Do(ctx, "shop/frontend", "GET", "http://cart.shop.svc.cluster.local:8080/e2e/"+f.token+"a/200/40?secret=hunter2"); err != nil || f.ok.Status != 200 {
		t.Fatalf("request: %+v, %v", f.ok, err)
	}
	if f.bad, err = c.Do(ctx, "shop/frontend", "POST", "http://checkout.shop.svc.cluster.local:8080/e2e/"+f.token+"b/503"); err != nil || f.bad.Status != 503 {
		t.Fatalf("failing request: %+v, %v", f.bad, err)
	}
	if f.refused, err = c.Connect(ctx, "shop/checkout", "legacy.shop.svc.cluster.local:"+strconv.Itoa(lab.LegacyPort), 23456); err == nil {
		t.Fatal("a closed port took a connection")
	}
	for _, silent := range []struct {
		by, from, to string
		port         uint16
	}{
		{"policy", "shop/recommend", "postgres.data.svc.cluster.local:5432", 23457},
		{"nftables", "shop/checkout", "legacy.shop.svc.cluster.local:" + strconv.Itoa(lab.ArchivePort), 23458},
	} {
		short, cancel := context.WithTimeout(ctx, 500*time.Millisecond) // one SYN, no retransmission
		if _, err := c.Connect(short, silent.from, silent.to, silent.port); err == nil {
			t.Fatalf("%s let a connection pass", silent.by)
		}
		cancel()
	}
	f.nx = f.token + ".nosuch.shop.svc.cluster.local"
	a, err := c.Lookup(ctx, "shop/frontend", f.nx, "A")
	if err != nil || a.Rcode != "NXDOMAIN" {
		t.Fatalf("lookup: %+v, %v", a, err)
	}
	return f
}

func (p *product) waitStored(ctx context.Context, token string) {
	p.eventually("the test's traffic is stored", func() error {
		var page struct{ Flows []struct{ What string } }
		if err := p.get("/api/v1/flows?protocol=http&protocol=dns&text="+token, &page); err != nil {
			return err
		}
		if len(page.Flows) < 3 {
			return fmt.Errorf("%d of 3 exchanges are there", len(page.Flows))
		}
		return ctx.Err()
	})
}

// because is what the lab's policies say of a connection to the database that they don't allow.
const because = "denied: ingress default deny because of NetworkPolicy data/default-deny and NetworkPolicy data/postgres-from-checkout"

func (p *product) testCLI(t *testing.T, f *traffic) {
	flows := p.observe(t, "--http-path", f.token)
	if len(flows) != 2 {
		t.Fatalf("%d requests, want 2", len(flows))
	}
	ok, bad := flows[0], flows[1]
	checkExchange(t, ok, "shop/frontend", "shop/cart", "GET", 200)
	checkExchange(t, bad, "shop/frontend", "shop/checkout", "POST", 503)
	if ns := ok.GetL7().GetLatencyNs(); ns < 40e6 || ns > uint64(f.ok.Took) {
		t.Errorf("latency %v, want 40 ms to %v", time.Duration(ns), f.ok.Took)
	}
	if url := ok.GetL7().GetHttp().GetUrl(); strings.Contains(url, "hunter2") {
		t.Errorf("a query value left the node: %s", url)
	}
	if got := p.observe(t, "--http-path", f.token, "--http-status", "5+"); len(got) != 1 {
		t.Errorf("%d failed requests, want 1", len(got))
	}
	for name, want := range map[string]struct {
		port   string
		pods   [2]string
		reason string
	}{
		"closed port": {"23456", [2]string{"shop/checkout", "shop/legacy"}, "NO_SOCKET in tcp_v4_rcv"},
		"nftables":    {"23458", [2]string{"shop/checkout", "shop/legacy"}, "NETFILTER_DROP in nft_do_chain"},
		"policy":      {"23457", [2]string{"shop/recommend", "data/postgres"}, "POLICY_DENIED by NetworkPolicy data/default-deny and data/postgres-from-checkout"},
	} {
		drops := p.observe(t, "--type", "drop", "--from-port", want.port)
		if len(drops) != 1 {
			t.Errorf("%s: %d drops, want 1", name, len(drops))
			continue
		}
		d := drops[0]
		if workload(d.GetSource()) != want.pods[0] || workload(d.GetDestination()) != want.pods[1] || d.GetSummary() != want.reason {
			t.Errorf("%s: %s -> %s %q, want %v %q", name, workload(d.GetSource()), workload(d.GetDestination()), d.GetSummary(), want.pods, want.reason)
		}
	}
	verdicts := p.observe(t, "--type", "policy-verdict", "--from-port", "23457")
	if len(verdicts) != 1 || verdicts[0].GetSummary() != because || verdicts[0].GetVerdict() != flowpb.Verdict_DROPPED || len(verdicts[0].GetIngressDeniedBy()) != 2 {
		t.Errorf("verdicts on the denied connection: %v, want one that says %q and names two policies", verdicts, because)
	}
	if allowed := p.observe(t, "--policy", "data/redis-from-cart", "--verdict", "FORWARDED"); len(allowed) == 0 {
		t.Error("no connection that data/redis-from-cart allowed")
	}
	for _, x := range []*lab.Exchange{f.ok, f.bad} {
		if drops := p.observe(t, "--verdict", "DROPPED", "--port", strconv.Itoa(int(x.Src.Port()))); len(drops) != 0 {
			t.Errorf("a connection that ended well has drops: %v", drops)
		}
	}
	text := p.cli(t, "observe", "--since", "10m", "--http-path", f.token)
	if !strings.Contains(text, "POST /e2e/"+f.token+"b/503") || strings.Count(text, f.token) != 2 {
		t.Errorf("compact output:\n%s", text)
	}
	if nodes := p.cli(t, "list", "nodes"); !strings.Contains(nodes, "node-a") || !strings.Contains(nodes, "node-b") {
		t.Errorf("list nodes:\n%s", nodes)
	}
	if ns := p.cli(t, "list", "namespaces"); !strings.Contains(ns, "shop") || !strings.Contains(ns, "data") {
		t.Errorf("list namespaces:\n%s", ns)
	}
}

// checkExchange looks at an exchange as Hubble tells it: a response from the server.
func checkExchange(t *testing.T, f *flowpb.Flow, client, server, method string, status uint32) {
	t.Helper()
	h := f.GetL7().GetHttp()
	if workload(f.GetDestination()) != client || workload(f.GetSource()) != server || !f.GetIsReply().GetValue() {
		t.Errorf("from %s to %s, reply %v; want the response of %s to %s", workload(f.GetSource()), workload(f.GetDestination()), f.GetIsReply(), server, client)
	}
	if h.GetMethod() != method || h.GetCode() != status || f.GetVerdict() != flowpb.Verdict_FORWARDED {
		t.Errorf("%s %d %v, want %s %d", h.GetMethod(), h.GetCode(), f.GetVerdict(), method, status)
	}
}

// testHubble asks with the stock hubble CLI.
func (p *product) testHubble(t *testing.T) {
	bin := tool.Path(t, "hubble")
	hubble := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(bin, append(args, "--server", p.observer)...)
		cmd.Env = append(os.Environ(), "HUBBLE_CONFIG="+filepath.Join(t.TempDir(), "none.yaml"))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("hubble %v: %v\n%s", args, err, stderr.String())
		}
		return string(out)
	}
	for _, c := range []struct {
		args  []string
		parts []string
		lines int // 0: any number
	}{
		{[]string{"status"}, []string{"Healthcheck (via " + p.observer + "): Ok", "Connected Nodes: 3/3"}, 0},
		{[]string{"list", "nodes"}, []string{"lab/node-a", "lab/node-b"}, 4},
		{[]string{"list", "namespaces"}, []string{"data", "shop"}, 0},
		{[]string{"observe", "--last", "10000", "--type", "policy-verdict", "--from-port", "23457"},
			[]string{"shop/recommend-", "data/postgres-0:5432", "policy-verdict:none INGRESS DENIED", "because of NetworkPolicy data/default-deny and NetworkPolicy data/postgres-from-checkout"}, 1},
		{[]string{"observe", "--last", "10000", "--type", "drop", "--from-port", "23457"}, []string{"data/postgres-0:5432", "Policy denied DROPPED"}, 1},
		{[]string{"observe", "--last", "10000", "--verdict", "DROPPED", "--from-port", "23458"}, []string{"shop/legacy-", "NETFILTER_DROP in nft_do_chain"}, 1},
		{[]string{"observe", "--last", "100", "--to-label", "app=postgres", "-o", "dict"}, []string{"DESTINATION: data/postgres-0"}, 0},
	} {
		out := hubble(c.args...)
		for _, part := range c.parts {
			if !strings.Contains(out, part) {
				t.Errorf("hubble %v does not say %q:\n%s", c.args, part, out)
			}
		}
		if n := strings.Count(out, "\n"); c.lines != 0 && n != c.lines {
			t.Errorf("hubble %v: %d lines, want %d:\n%s", c.args, n, c.lines, out)
		}
	}
}

func (p *product) testObserver(ctx context.Context, t *testing.T, f *traffic) {
	conn, err := grpc.NewClient(p.observer, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := observerpb.NewObserverClient(conn)
	stream, err := c.GetFlows(ctx, &observerpb.GetFlowsRequest{
		Number: 100, Whitelist: []*flowpb.FlowFilter{{DnsQuery: []string{f.token}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []*flowpb.Flow
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if fl := resp.GetFlow(); fl != nil {
			got = append(got, fl)
		}
	}
	if len(got) != 1 || got[0].GetL7().GetDns().GetRcode() != 3 || strings.TrimSuffix(got[0].GetL7().GetDns().GetQuery(), ".") != f.nx || workload(got[0].GetSource()) != "platform/dns" {
		t.Errorf("NXDOMAIN: %v", got)
	}
	status, err := c.ServerStatus(ctx, &observerpb.ServerStatusRequest{})
	if err != nil || status.GetNumConnectedNodes().GetValue() != 3 || status.GetSeenFlows() == 0 {
		t.Errorf("status: %v, %v", status, err)
	}
	nodes, err := c.GetNodes(ctx, &observerpb.GetNodesRequest{})
	if err != nil || len(nodes.GetNodes()) != 3 {
		t.Errorf("nodes: %v, %v", nodes, err)
	}
	ns, err := c.GetNamespaces(ctx, &observerpb.GetNamespacesRequest{})
	if err != nil || !slices.ContainsFunc(ns.GetNamespaces(), func(n *observerpb.Namespace) bool { return n.GetNamespace() == "shop" }) {
		t.Errorf("namespaces: %v, %v", ns, err)
	}
}

func (p *product) testPage(ctx context.Context, t *testing.T, f *traffic) {
	args := []string{"e2e/page.mjs", "http://" + p.page, f.token + "b"}
	if prefix := os.Getenv("PARALLAX_SCREENSHOTS"); prefix != "" {
		args = append(args, prefix)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", args...)
	cmd.Dir = "../../ui/web"
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, stderr.String())
	}
	var facts struct {
		Errors, Cards, Rows []string
		Ledger              string
	}
	if err := json.Unmarshal(out, &facts); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if len(facts.Errors) > 0 {
		t.Errorf("the page's console: %v", facts.Errors)
	}
	for _, want := range []string{"frontend", "checkout", "postgres", "redis", "dns"} {
		if !slices.ContainsFunc(facts.Cards, func(c string) bool { return strings.Contains(c, want) }) {
			t.Errorf("no card for %s: %v", want, facts.Cards)
		}
	}
	if len(facts.Rows) != 1 || !strings.Contains(facts.Rows[0], "shop/frontend") || !strings.Contains(facts.Rows[0], "shop/checkout") || !strings.Contains(facts.Rows[0], "503") {
		t.Errorf("rows: %v", facts.Rows)
	}
	if !strings.Contains(facts.Ledger, "exact") {
		t.Errorf("ledger: %q", facts.Ledger)
	}
}

func (p *product) testMetrics(t *testing.T) {
	for addr, want := range map[string]string{p.rMet: `parallax_produced_total{node="node-a"}`, p.cMet: "parallax_publish_produced_total"} {
		resp, err := http.Get("http://" + addr + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(body), want) {
			t.Errorf("%s has no %s: %v", addr, want, err)
		}
	}
}

func (p *product) testLedger(t *testing.T) {
	if out := p.cli(t, "status"); !strings.Contains(out, "exact") || !strings.Contains(out, "node-a") {
		t.Errorf("status:\n%s", out)
	}
}

// testSQL opens what the product stored, now that it has ended, and asks the engine itself.
func (p *product) testSQL(ctx context.Context, t *testing.T, f *traffic) {
	lib, err := embedded.Library("")
	if err != nil {
		t.Fatal(err)
	}
	engine, err := embedded.Open(ctx, embedded.Config{Dir: filepath.Join(p.data, "clickhouse"), Library: lib})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	const words = "SELECT concatWithSeparator(' ', src_name, dst_name, l7_operation, toString(l7_status), drop_reason, drop_symbol, toString(count())) FROM flows WHERE NOT secondary AND "
	for where, want := range map[string]string{
		"l7_resource LIKE {token:String} AND l7_operation = 'GET'":  "frontend cart GET 200   1",
		"l7_resource LIKE {token:String} AND l7_operation = 'POST'": "frontend checkout POST 503   1",
		"l7_resource LIKE {token:String} AND l7_operation = 'A'":    "frontend dns A 3   1",
		"src_port = 23456 AND kind = 'drop'":                        "checkout legacy  0 NO_SOCKET tcp_v4_rcv 1",
		"src_port = 23457 AND kind = 'drop'":                        "recommend postgres  0 POLICY_DENIED  1",
		"src_port = 23458 AND kind = 'drop'":                        "checkout legacy  0 NETFILTER_DROP nft_do_chain 1",
	} {
		sql := words + where + " GROUP BY src_name, dst_name, l7_operation, l7_status, drop_reason, drop_symbol"
		var col proto.ColStr
		var got []string
		err := engine.Select(ctx, sql, map[string]string{"token": "%" + f.token + "%"}, proto.Results{{Data: &col}}, func() error {
			for i := range col.Rows() {
				got = append(got, col.Row(i))
			}
			return nil
		})
		if err != nil || !slices.Equal(got, []string{want}) {
			t.Errorf("%s\n got %q, %v\nwant %q", where, got, err, want)
		}
	}
}

// testHistory asks a product that was started anew about what the one before saw.
func (p *product) testHistory(ctx context.Context, t *testing.T, f *traffic) {
	if flows := p.observe(t, "--http-path", f.token); len(flows) != 2 {
		t.Errorf("CLI: %d requests of the past, want 2", len(flows))
	}
	var m struct {
		Edges []struct{ Src, Dst, Verdict string }
	}
	if err := p.get("/api/v1/map", &m); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, e := range m.Edges {
		found = found || e.Src == "shop/recommend" && e.Dst == "data/postgres" && e.Verdict == "dropped"
	}
	if !found {
		t.Errorf("the map of the past has no dropped edge from recommend to postgres: %v", m.Edges)
	}
}
