package netns

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Watcher tells that links or routes of a network namespace have changed, not what: the reader lists them anew, so that
// lost messages (ENOBUFS) and messages out of order cannot leave it with a wrong picture.
type Watcher struct {
	file *os.File
	buf  []byte
}

// NewWatcher watches the network namespace of the calling thread.
func NewWatcher() (*Watcher, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("watch interfaces: %w", err)
	}
	groups := uint32(1<<(unix.RTNLGRP_LINK-1) | 1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV6_ROUTE-1))
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("watch interfaces: %w", err)
	}
	return &Watcher{file: os.NewFile(uintptr(fd), "rtnetlink"), buf: make([]byte, 1<<16)}, nil
}

// Wait returns when something changed since the last call, and takes all messages that are there. After Close it
// returns an error.
func (w *Watcher) Wait() error {
	if err := w.read(); err != nil {
		return err
	}
	conn, err := w.file.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Read(func(fd uintptr) bool {
		for {
			if _, err := unix.Read(int(fd), w.buf); err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
				return true
			}
		}
	})
}

func (w *Watcher) read() error {
	if _, err := w.file.Read(w.buf); err != nil && !errors.Is(err, unix.ENOBUFS) {
		return err
	}
	return nil
}

// Close ends a Wait. It may be called from any goroutine, and twice.
func (w *Watcher) Close() { _ = w.file.Close() }
