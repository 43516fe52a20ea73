package probe

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// enterNetNS moves the calling goroutine into the network namespace at path and locks it to its thread. It must not
// be unlocked: the thread ends with the goroutine, and no other goroutine ever runs in the namespace by accident.
// "" stays in the namespace of the process.
func enterNetNS(path string) error {
	runtime.LockOSThread()
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return errNoNetNS(path)
	}
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		if errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("%s is not a network namespace: list them with ip netns", path)
		}
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	return nil
}

func errNoNetNS(path string) error {
	return fmt.Errorf("network namespace %s does not exist: list them with ip netns", path)
}
