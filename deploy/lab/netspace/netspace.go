// Package netspace makes, enters and removes named network namespaces, the kind that `ip netns` lists.
//
// A namespace is named by a bind mount below Dir. Work inside of one runs on a thread of its own, never on the main thread, so
// that /proc/self/ns/net always names the namespace in which the program was started.
package netspace

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir is where iproute2 keeps named namespaces.
const Dir = "/run/netns"

// Path returns the path that names the namespace.
func Path(name string) string { return filepath.Join(Dir, name) }

// Create makes a network namespace with that name. It returns an error that is fs.ErrExist if there is one.
func Create(name string) error {
	f, err := os.OpenFile(Path(name), os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("create network namespace: %w", err)
	}
	f.Close()
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		return unix.Mount("/proc/thread-self/ns/net", Path(name), "", unix.MS_BIND, "")
	})
	if err != nil {
		return errors.Join(fmt.Errorf("create network namespace %s: %w", name, err), os.Remove(Path(name)))
	}
	return nil
}

// Remove takes the name away; the namespace ends with the last process or descriptor in it. A missing name is no error.
func Remove(name string) error {
	// EINVAL: the file is there, but a start that was cut short never mounted on it.
	if err := unix.Unmount(Path(name), unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", Path(name), err)
	}
	if err := os.Remove(Path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove network namespace: %w", err)
	}
	return nil
}

// List returns the names that begin with prefix.
func List(prefix string) ([]string, error) {
	entries, err := os.ReadDir(Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Do runs fn inside the namespace at path. Sockets that fn opens and processes that it starts belong to that namespace for
// good. fn must not start goroutines that depend on it.
func Do(path string, fn func() error) error {
	ns, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	defer ns.Close()
	return onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", path, err)
		}
		return fn()
	})
}

// onThread runs fn on a locked thread other than the main one, and brings that thread back to where it came from. A thread
// that can't come back is given up.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	var run func()
	run = func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// Holding the main thread makes the scheduler put the next goroutine elsewhere.
			inner := make(chan struct{})
			go func() { defer close(inner); run() }()
			<-inner
			runtime.UnlockOSThread()
			return
		}
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		defer home.Close()
		err = fn()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}
	go run()
	return <-done
}

// Prepare makes Dir ready, as iproute2 does: a shared mount of itself, so that all mount namespaces see the names. It reports
// whether it made that mount; Undo takes it back. A directory with names in it is left as it is.
func Prepare() (made bool, err error) {
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return false, fmt.Errorf("prepare %s: %w", Dir, err)
	}
	if err := unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, ""); err == nil {
		return false, nil // a mount point already
	}
	if names, err := List(""); err != nil || len(names) > 0 {
		return false, err
	}
	if err := unix.Mount(Dir, Dir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return false, fmt.Errorf("prepare %s: %w", Dir, err)
	}
	if err := unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return true, fmt.Errorf("share %s: %w", Dir, err)
	}
	return true, nil
}

// Undo takes back the mount that Prepare made, unless somebody else's namespaces live on it by now.
func Undo() {
	if names, err := List(""); err == nil && len(names) == 0 {
		_ = unix.Unmount(Dir, 0) // EBUSY: in use again, and then it is not ours to take
	}
}
