package netns_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"

	"github.com/parallax-flow/parallax/collector/netns"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// space makes a network namespace and returns its path.
func space(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("this test needs root")
		}
		t.Skip("this test needs root")
	}
	name := fmt.Sprintf("plxt-netns-%d-%s", os.Getpid(), strings.ToLower(t.Name()))
	for _, verb := range []string{"add", "del"} {
		do := func() {
			if out, err := exec.Command("ip", "netns", verb, name).CombinedOutput(); err != nil {
				t.Errorf("%s: %v %s", verb, err, out)
			}
		}
		if verb == "add" {
			do()
		} else {
			t.Cleanup(do)
		}
	}
	return "/run/netns/" + name
}

func inode(t *testing.T, path string) uint32 {
	t.Helper()
	n, err := netns.Inode(path)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDoIsThereAndNowhereElse(t *testing.T) {
	path := space(t)
	want, own := inode(t, path), inode(t, "")
	for range 50 { // on whatever threads there are, the first among them
		var there uint32
		if err := netns.Do(path, func() (err error) { there, err = netns.Inode(""); return err }); err != nil || there != want {
			t.Fatalf("inode %d, want %d: %v", there, want, err)
		}
		if inode(t, "") != own || inode(t, "/proc/self/ns/net") != own {
			t.Fatal("the process is in another namespace")
		}
	}
	f, err := netns.Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := inode(t, fmt.Sprintf("/proc/self/fd/%d", f.Fd())); got != own {
		t.Errorf("inode %d, want %d", got, own)
	}
	failed := errors.New("failed")
	if err := netns.Do(path, func() error { return failed }); !errors.Is(err, failed) {
		t.Error(err)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	for path, want := range map[string]string{
		"/run/netns/plxt-none": "does not exist: list them with ip netns",
		"/proc/self/status":    "is not a network namespace",
	} {
		if _, err := netns.Inode(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("inode of %s: %v", path, err)
		}
		if err := netns.Do(path, func() error { t.Error("called"); return nil }); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("do in %s: %v", path, err)
		}
	}
}

func TestWatcherTellsOfLinks(t *testing.T) {
	path := space(t)
	var w *netns.Watcher
	if err := netns.Do(path, func() (err error) { w, err = netns.NewWatcher(); return err }); err != nil {
		t.Fatal(err)
	}
	told := make(chan error)
	go func() {
		for {
			err := w.Wait()
			told <- err
			if err != nil {
				return
			}
		}
	}()
	for i := range 3 {
		if err := netns.Do(path, func() error {
			return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprint("plxt", i)}, PeerName: fmt.Sprint("peer", i)})
		}); err != nil {
			t.Fatal(err)
		}
		if err := <-told; err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	w.Close()
	for err := error(nil); err == nil; err = <-told { // what was told before, then the end
	}
}

func TestWholeTriesAgain(t *testing.T) {
	calls := 0
	v, err := netns.Whole(func() (int, error) {
		if calls++; calls < 4 {
			return 0, netlink.ErrDumpInterrupted
		}
		return calls, nil
	})
	if v != 4 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
	if _, err := netns.Whole(func() (int, error) { return 0, netlink.ErrDumpInterrupted }); !errors.Is(err, netlink.ErrDumpInterrupted) {
		t.Errorf("without end: %v", err)
	}
}
