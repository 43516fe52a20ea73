package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/parallax-flow/parallax/internal/kubetest/apiserver"
)

// tools are the programs of the system that a lab runs.
type tools struct {
	redis, openssl, nft string
	postgres            string // directory of PostgreSQL's programs
	postgresUser        *syscall.Credential

	kubernetes apiserver.Programs // with Config.Kubernetes
}

// findTools looks for all of them and says in one line what is missing and how to get it.
func findTools() (*tools, error) {
	t := &tools{}
	var missing, packages []string
	for _, p := range []struct {
		path         *string
		name, debian string
	}{{&t.redis, "redis-server", "redis-server"}, {&t.openssl, "openssl", "openssl"}, {&t.nft, "nft", "nftables"}} {
		path, err := exec.LookPath(p.name)
		if err != nil {
			path, err = exec.LookPath("/usr/sbin/" + p.name) // not in everybody's PATH
		}
		if err != nil {
			missing, packages = append(missing, p.name), append(packages, p.debian)
		}
		*p.path = path
	}
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // Debian keeps versions beside each other, outside of PATH
	if path, err := exec.LookPath("initdb"); err == nil && len(dirs) == 0 {
		dirs = []string{path}
	}
	u, err := user.Lookup("postgres")
	if len(dirs) == 0 || err != nil {
		missing, packages = append(missing, "PostgreSQL"), append(packages, "postgresql")
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("lab: %s not found: apt-get install -y %s", strings.Join(missing, ", "), strings.Join(packages, " "))
	}
	slices.SortFunc(dirs, func(a, b string) int { return postgresVersion(a) - postgresVersion(b) })
	t.postgres = filepath.Dir(dirs[len(dirs)-1])
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := cmp.Or(err1, err2); err != nil {
		return nil, fmt.Errorf("lab: user postgres: %w", err)
	}
	t.postgresUser = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return t, nil
}

// postgresVersion reads the version from the path of a program: /usr/lib/postgresql/15/bin/initdb.
func postgresVersion(path string) int {
	v, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	return v
}

// runner starts and keeps what lives in a lab.
type runner struct {
	layout *Layout
	state  *stateFile
	spawn  *spawner
	tools  *tools
	pod    []string
	rate   float64
	dir    string
	log    *slog.Logger
}

// driver says whether p only makes traffic: it starts when the servers answer.
func (p *Endpoint) driver() bool { return len(p.Ports) == 0 }

// prepare makes the network and the files, side by side: the database's files take as long as all else.
func (r *runner) prepare(ctx context.Context) error {
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.initDatabase(ctx) })
	group.Go(func() error {
		if err := cmp.Or(writeCertificates(r.dir, r.tlsNames()), r.writeZone(), os.Mkdir(r.path("redis"), 0o755)); err != nil {
			return err
		}
		if err := buildNetwork(ctx, r.layout); err != nil {
			return err
		}
		return r.blockArchive(ctx)
	})
	return group.Wait()
}

func (r *runner) path(name string) string { return filepath.Join(r.dir, name) }

// initDatabase makes a PostgreSQL cluster that any address may use.
func (r *runner) initDatabase(ctx context.Context) error {
	home := r.path("postgres")
	if err := os.Mkdir(home, 0o700); err != nil {
		return err
	}
	if err := os.Chown(home, int(r.tools.postgresUser.Uid), int(r.tools.postgresUser.Gid)); err != nil {
		return err
	}
	cmd := r.asPostgres("initdb", "-D", r.path("postgres/data"), "-U", "shop", "-A", "trust", "-N",
		"--locale=C", "-E", "UTF8", "--wal-segsize=1", "--no-instructions")
	if err := r.spawn.output(ctx, "", cmd); err != nil {
		return err
	}
	rules := "host all all 0.0.0.0/0 trust\nhost all all ::/0 trust\n"
	return os.WriteFile(r.path("postgres/data/pg_hba.conf"), []byte(rules), 0o600)
}

func (r *runner) asPostgres(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(r.tools.postgres, program), args...)
	cmd.Dir = r.path("postgres")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: r.tools.postgresUser}
	return cmd
}

// blockArchive makes legacy's pod drop what checkout sends to its archive, as the firewall of another system would.
func (r *runner) blockArchive(ctx context.Context) error {
	from, to := r.layout.Find("shop/checkout"), r.layout.Find("shop/legacy")
	cmd := exec.Command(r.tools.nft, "-f", "-")
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`table inet plx-lab {
	chain input {
		type filter hook input priority filter; policy accept;
		ip saddr %s tcp dport %d counter drop
		ip6 saddr %s tcp dport %d counter drop
	}
}`, from.Addr, ArchivePort, from.Addr6, ArchivePort))
	return r.spawn.output(ctx, to.NetNS, cmd)
}

// writeZone writes what the DNS server serves: the addresses behind each name.
func (r *runner) writeZone() error {
	data, err := json.Marshal(r.layout.zone())
	if err != nil {
		return err
	}
	return os.WriteFile(r.path("zone.json"), data, 0o644)
}

// zone returns the lab's DNS names. Services are headless: their names are those of their pods' addresses.
func (l *Layout) zone() map[string][]netip.Addr {
	zone := map[string][]netip.Addr{"partner.example.net.": {PartnerAddr}, "backup.example.net.": {BackupAddr}}
	for _, p := range l.All() {
		name := p.dnsName() + "."
		zone[name] = append(zone[name], p.Addr, p.Addr6)
		if p.WorkloadKind == "StatefulSet" {
			zone[p.Name+"."+name] = []netip.Addr{p.Addr, p.Addr6}
		}
	}
	return zone
}

func (p *Endpoint) dnsName() string {
	if p.Namespace == "" {
		return p.Workload
	}
	return p.Workload + "." + p.Namespace + ".svc.cluster.local"
}

func (r *runner) tlsNames() []string {
	var names []string
	for _, role := range []string{"tls-openssl", "tls-go"} {
		names = append(names, r.layout.Find("platform/"+role).dnsName())
	}
	return names
}

// start starts the pods that want names, each under its own supervisor.
func (r *runner) start(ctx context.Context, group *errgroup.Group, want func(*Endpoint) bool) {
	for _, p := range r.layout.All() {
		if want(p) {
			group.Go(func() error {
				return r.spawn.supervise(ctx, r.log, r.state, p, func() *exec.Cmd { return r.command(p) })
			})
		}
	}
}

// command returns the program of a pod.
func (r *runner) command(p *Endpoint) *exec.Cmd {
	switch p.Role {
	case "redis":
		return exec.Command(r.tools.redis, "--port", "6379", "--bind", "*", "-::*", "--protected-mode", "no", "--save", "",
			"--appendonly", "no", "--daemonize", "no", "--loglevel", "warning", "--dir", r.path("redis"))
	case "postgres":
		// No socket in /run: nobody else must find this server.
		args := []string{"-D", r.path("postgres/data")}
		for _, option := range []string{"listen_addresses=*", "unix_socket_directories=", "fsync=off", "shared_buffers=16MB",
			"max_connections=20", "autovacuum=off", "log_min_messages=error"} {
			args = append(args, "-c", option)
		}
		_ = os.Remove(r.path("postgres/data/postmaster.pid")) // of a server that was killed, with a PID of another namespace
		return r.asPostgres("postgres", args...)
	case "tls-openssl":
		return exec.Command(r.tools.openssl, "s_server", "-accept", "8443", "-www", "-quiet",
			"-cert", r.path(p.dnsName()+".pem"), "-key", r.path(p.dnsName()+".key"))
	}
	args := append(slices.Clone(r.pod[1:]), p.Role, "-name", p.Key(), "-dns", r.layout.Find("platform/dns").Addr.String(),
		"-addr", p.Addr.String(), "-dir", r.dir, "-rate", strconv.FormatFloat(r.rate, 'g', -1, 64))
	if p.Namespace == "" {
		args = append(args, "-bind") // the world's hosts share a network namespace
	}
	cmd := exec.Command(r.pod[0], args...)
	// A pod is small: one thread of Go code, and memory given back early.
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOMEMLIMIT=64MiB", "GOGC=50")
	return cmd
}
