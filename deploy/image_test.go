package deploy

// No container runtime is needed here, and none is there where this runs: the test follows deploy/image/Dockerfile with folders in
// place of file systems. What the public base images hold is taken from this machine; whether their tags exist is not checked.

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/parallax-flow/parallax/storage/embedded"
)

// image is a Dockerfile that is followed.
type image struct {
	t      *testing.T
	dir    string // of the stages' folders
	stages map[string]*stage
	order  []string
	ignore []string
}

// stage is one FROM with what follows.
type stage struct {
	name, from string
	steps      [][2]string // instruction, rest
}

// TestImage builds both images from the Dockerfile's own commands and runs a relay in the result as the chart does: as its user,
// without any capability, on a read-only file system, storing with the engine of the image.
func TestImage(t *testing.T) {
	needRoot(t) // mounts and network namespaces
	i := readImage(t)
	i.checkMakefile()
	i.checkPins()
	for _, name := range i.order {
		i.build(i.stages[name])
	}
	root := filepath.Join(i.dir, "parallax-engine")
	out, err := exec.Command(filepath.Join(root, "usr/local/bin/parallax"), "version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "v0.0.0-test") {
		t.Errorf("version: %v %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(i.dir, "parallax/usr/local/lib/libchdb.so")); err == nil {
		t.Error("the image for collectors has the engine")
	}
	runRelay(t, root)
}

func readImage(t *testing.T) *image {
	t.Helper()
	text, err := os.ReadFile("image/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	i := &image{t: t, dir: t.TempDir(), stages: map[string]*stage{}}
	if err := os.Chmod(i.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	joined := regexp.MustCompile(`\\\n\s*`).ReplaceAllString(string(text), " ")
	var current *stage
	for line := range strings.Lines(joined) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case word == "" || strings.HasPrefix(word, "#") || current == nil && word == "ARG":
		case word == "FROM":
			from, name, named := strings.Cut(rest, " AS ")
			if !named {
				t.Fatalf("a stage without a name: %s", line)
			}
			current = &stage{name: name, from: from}
			i.stages[name], i.order = current, append(i.order, name)
		default:
			current.steps = append(current.steps, [2]string{word, rest})
		}
	}
	ignore, err := os.ReadFile("../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(ignore)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			i.ignore = append(i.ignore, line)
		}
	}
	return i
}

// checkMakefile holds the commands to those of make build.
func (i *image) checkMakefile() {
	i.t.Helper()
	text, err := os.ReadFile("../Makefile")
	if err != nil {
		i.t.Fatal(err)
	}
	var commands []string
	for _, s := range i.stages {
		for _, step := range s.steps {
			commands = append(commands, step[1])
		}
	}
	all := strings.Join(commands, "\n")
	for _, want := range []string{"npm ci --no-audit --no-fund --loglevel=error", "npm run --silent build", "build -trimpath -ldflags", "-s -w -X main.version=", "./cmd/parallax"} {
		if !strings.Contains(string(text), want) || !strings.Contains(all, want) {
			i.t.Errorf("%q is not in both Makefile and Dockerfile", want)
		}
	}
}

// checkPins wants a full version of each base image.
func (i *image) checkPins() {
	i.t.Helper()
	text, err := os.ReadFile("image/Dockerfile")
	if err != nil {
		i.t.Fatal(err)
	}
	pinned := regexp.MustCompile(`(?m)^ARG (NODE|GO|BASE)=[a-z]+:[0-9]+\.[0-9]+(\.[0-9]+)?-(bookworm|slim)$`).FindAll(text, -1)
	if len(pinned) != 3 {
		i.t.Errorf("pinned are only %q", pinned)
	}
}

// path is where a path of a stage is on this machine.
func (i *image) path(stage, dir, p string) string {
	if !filepath.IsAbs(p) {
		p = filepath.Join(dir, p)
	}
	return filepath.Join(i.dir, stage, p)
}

func (i *image) build(s *stage) {
	i.t.Helper()
	if base, ours := i.stages[s.from]; ours {
		i.command(i.dir, nil, "cp", "-a", filepath.Join(i.dir, base.name)+"/.", filepath.Join(i.dir, s.name))
	}
	dir := "/"
	env := []string{"TARGETARCH=" + runtime.GOARCH, "VERSION=v0.0.0-test"}
	for _, step := range s.steps {
		switch word, rest := step[0], step[1]; word {
		case "WORKDIR":
			dir = rest
			if err := os.MkdirAll(i.path(s.name, "", dir), 0o755); err != nil {
				i.t.Fatal(err)
			}
		case "COPY":
			i.copy(s.name, dir, strings.Fields(rest))
		case "RUN":
			i.prepareCache(s.name, rest)
			own := regexp.MustCompile(`(^|[\s=])/(out|cache)\b`).ReplaceAllString(rest, "${1}"+filepath.Join(i.dir, s.name)+"/$2")
			i.command(i.path(s.name, "", dir), env, "sh", "-euc", own)
		case "ARG", "LABEL", "USER", "ENTRYPOINT":
		default:
			i.t.Fatalf("this test does not know %s", word)
		}
	}
}

// prepareCache spares the download of the engine where it is there already.
func (i *image) prepareCache(stage, command string) {
	i.t.Helper()
	if !strings.Contains(command, "install-chdb.sh") {
		return
	}
	if lib, err := embedded.Library(""); err == nil {
		to := filepath.Join(i.dir, stage, "cache", "chdb-"+embedded.Version)
		i.command(i.dir, nil, "mkdir", "-p", filepath.Dir(to))
		i.command(i.dir, nil, "ln", "-s", filepath.Dir(lib), to)
	}
}

func (i *image) copy(stage, dir string, args []string) {
	i.t.Helper()
	from, fromStage := strings.CutPrefix(args[0], "--from=")
	if fromStage {
		args = args[1:]
	}
	to := i.path(stage, dir, args[len(args)-1])
	for _, source := range args[:len(args)-1] {
		if !fromStage {
			i.copyContext(source, to, strings.HasSuffix(args[len(args)-1], "/") || source == "." || isDir(filepath.Join("..", source)))
			continue
		}
		path := i.path(from, "/", source)
		if _, err := os.Stat(path); err != nil {
			path = source // of the base image
		}
		if isDir(path) {
			path += "/."
		}
		i.command(i.dir, nil, "mkdir", "-p", filepath.Dir(to))
		i.command(i.dir, nil, "cp", "-rL", path, to)
	}
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// copyContext copies a file or folder of the repository, without what .dockerignore names; into the folder to, if into.
func (i *image) copyContext(source, to string, into bool) {
	i.t.Helper()
	copied := 0
	err := filepath.WalkDir(filepath.Join("..", source), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel("..", path)
		if err != nil {
			return err
		}
		if slices.Contains(i.ignore, name) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		rel, err := filepath.Rel(filepath.Join("..", source), path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if rel == "." { // a file
			if target = to; into {
				target = filepath.Join(to, filepath.Base(path))
			}
		}
		copied++
		return copyFile(path, target)
	})
	if err != nil || copied == 0 {
		i.t.Fatalf("COPY %s: %d files, %v", source, copied, err)
	}
}

func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, text, info.Mode().Perm())
}

func (i *image) command(dir string, env []string, args ...string) {
	i.t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		i.t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// runRelay starts the chart's relay on root with the C library of this machine, as a container runtime would.
func runRelay(t *testing.T, root string) {
	t.Helper()
	n := newNode(t)
	const script = `
root=$1; shift
mount --bind "$root" "$root"
for d in usr/lib lib lib64; do
  [ -e "/$d" ] || continue
  mkdir -p "$root/$d"; mount --bind "/$d" "$root/$d"
done
mkdir -p "$root/proc" "$root/tmp" "$root/data" "$root/dev"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount -o remount,bind,ro "$root"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o uid=65532,gid=65532,mode=0700 tmpfs "$root/data"
exec chroot --userspec=65532:65532 --groups= "$root" "$@"`
	args := append([]string{"--net=/run/netns/" + n.name, "--", "unshare", "--mount", "--", "setpriv", "--no-new-privs", "--",
		"sh", "-euc", script, "sh", root, "/usr/local/bin/parallax"}, relayArgs(t)...)
	cmd := exec.Command("nsenter", args...)
	cmd.Env = []string{}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	bin := filepath.Join(root, "usr/local/bin/parallax")
	until(t, "the relay answers", func() error {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the relay ended: %v\n%s", err, &log)
		default:
		}
		out, err := in(n.name, bin, "status").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	for _, url := range []string{"http://127.0.0.1:9966/healthz", "http://127.0.0.1:12000/"} {
		if out, err := in(n.name, "curl", "-sf", "-m", "10", url).CombinedOutput(); err != nil || len(out) == 0 {
			t.Errorf("%s: %v %s", url, err, out)
		} else if strings.HasSuffix(url, ":12000/") && !strings.Contains(string(out), "<script") {
			t.Errorf("the page is not in the binary: %s", out)
		}
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := <-ended; err != nil {
		t.Errorf("the relay ends with %v:\n%s", err, &log)
	}
}

// relayArgs are those of the chart's relay.
func relayArgs(t *testing.T) []string {
	t.Helper()
	for _, o := range objects(t, render(t)) {
		if o.GetKind() == "StatefulSet" {
			containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
			args, _ := commandLine(containers[0].(map[string]any))
			return args
		}
	}
	t.Fatal("the chart has no relay")
	return nil
}
