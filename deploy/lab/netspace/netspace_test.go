package netspace

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// create makes a namespace for one test.
func create(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root, and in CI no test may be skipped")
		}
		t.Skip("needs root")
	}
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("plxt-%d-%s", os.Getpid(), strings.ToLower(t.Name()))
	if err := Create(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Remove(name); err != nil {
			t.Error(err)
		}
	})
	return name
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func TestLife(t *testing.T) {
	name := create(t)
	if inode(t, Path(name)) == inode(t, "/proc/self/ns/net") {
		t.Error("the new namespace is the old one")
	}
	if err := Create(name); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second one of that name: %v", err)
	}
	names, err := List(name)
	if err != nil || !slices.Equal(names, []string{name}) {
		t.Errorf("list: %v, %v", names, err)
	}
	if err := Remove(name); err != nil {
		t.Fatal(err)
	}
	if names, err := List(name); err != nil || len(names) > 0 {
		t.Errorf("list after remove: %v, %v", names, err)
	}
	if err := Remove(name); err != nil {
		t.Errorf("remove again: %v", err)
	}
	if err := Do(Path(name), func() error { return nil }); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("enter what is gone: %v", err)
	}
}

// TestRemoveHalfMade removes what a start left that was killed between its two steps.
func TestRemoveHalfMade(t *testing.T) {
	name := create(t)
	if err := unix.Unmount(Path(name), unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if err := Remove(name); err != nil {
		t.Error(err)
	}
}

// TestDo enters from many goroutines at once: the program itself never leaves its namespace.
func TestDo(t *testing.T) {
	name := create(t)
	home, inside := inode(t, "/proc/self/ns/net"), inode(t, Path(name))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 50 {
				err := Do(Path(name), func() error {
					if got := inode(t, "/proc/thread-self/ns/net"); got != inside {
						t.Errorf("inside of %d, not %d", got, inside)
					}
					if got := inode(t, "/proc/self/ns/net"); got != home {
						t.Error("the main thread moved")
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				if got := inode(t, "/proc/thread-self/ns/net"); got != home {
					t.Errorf("a thread was left in %d", got)
				}
			}
		})
	}
	wg.Wait()
}

func TestDoReturnsTheError(t *testing.T) {
	name := create(t)
	want := errors.New("no")
	if err := Do(Path(name), func() error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
	// Only a loopback, and that is down.
	err := Do(Path(name), func() error {
		links, err := net.Interfaces()
		if err == nil && (len(links) == 0 || links[0].Flags&net.FlagUp != 0) {
			t.Errorf("links: %+v", links)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
