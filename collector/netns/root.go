// Package netns enters network namespaces and watches their links and routes.
package netns

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Do runs f in the network namespace at path, "" being that of the process. What f opens stays there. f runs on a
// thread that ends behind it, so that no other goroutine ever finds itself in the namespace.
func Do(path string, f func() error) error {
	if path == "" {
		return f()
	}
	ns, err := Open(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	return OnThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return pathError(path, err)
		}
		return f()
	})
}

// Open opens the network namespace at path, "" being that of the process.
func Open(path string) (*os.File, error) {
	if path == "" {
		path = "/proc/self/ns/net"
	}
	ns, err := os.Open(path)
	if err != nil {
		return nil, pathError(path, err)
	}
	return ns, nil
}

// OnThread runs f on a thread that ends behind it. That is never the process's first thread: the first one cannot end,
// and its namespace is what /proc/self and /proc/PID show of the whole process.
func OnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			done <- OnThread(f) // this goroutine holds the first thread meanwhile
			return
		}
		done <- f()
	}()
	return <-done
}

// Inode is the number by which the kernel tells network namespaces apart; path "" is that of the calling thread.
func Inode(path string) (uint32, error) {
	if path == "" {
		path = "/proc/thread-self/ns/net"
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return 0, pathError(path, err)
	}
	if fs.Type != unix.NSFS_MAGIC {
		return 0, pathError(path, unix.EINVAL)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, pathError(path, err)
	}
	return uint32(st.Ino), nil
}

// Whole calls list until nothing changes meanwhile, or some tries have failed.
func Whole[T any](list func() (T, error)) (v T, err error) {
	for range 10 {
		if v, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return v, err
}

func pathError(path string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("network namespace %s does not exist: list them with ip netns", path)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%s is not a network namespace: list them with ip netns", path)
	}
	return fmt.Errorf("network namespace %s: %w", path, err)
}
