package lab

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parallax-flow/parallax/deploy/lab/netspace"
)

// Files in a lab's directory. The state is written before the first thing is made and removed behind the last: what
// is found there without a living owner is left over from a lab that was killed.
const (
	lockName  = "lock"
	stateName = "state.json"
)

// state is what another process needs to know of a lab: to use it (Attach) or to remove what it left (Clean).
type state struct {
	ID        string    `json:"id"`
	PID       int       `json:"pid"`
	Ready     bool      `json:"ready"`
	MadeMount bool      `json:"madeMount"` // the mount of netspace.Dir on itself is ours
	Processes []process `json:"processes"`
	Layout    *Layout   `json:"layout,omitempty"`
}

// process names one process for good: a PID alone is recycled.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot: field 22 of /proc/PID/stat
	Name  string `json:"name"`
}

// stateFile keeps a state on disk up to date. It is safe for concurrent use.
type stateFile struct {
	dir string
	mu  sync.Mutex
	s   state
}

func (f *stateFile) update(change func(*state)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.s)
	data, err := json.Marshal(&f.s)
	if err != nil {
		return fmt.Errorf("lab: encode state: %w", err)
	}
	path := filepath.Join(f.dir, stateName)
	if err := os.WriteFile(path+".new", data, 0o644); err != nil {
		return fmt.Errorf("lab: write state: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("lab: write state: %w", err)
	}
	return nil
}

func (f *stateFile) addProcess(pid int, name string) error {
	start, err := startTime(pid)
	if err != nil {
		return fmt.Errorf("lab: look at process %d: %w", pid, err)
	}
	return f.update(func(s *state) { s.Processes = append(s.Processes, process{pid, start, name}) })
}

func (f *stateFile) removeProcess(pid int) {
	// A record that stays behind does no harm: its start time no longer matches.
	_ = f.update(func(s *state) {
		s.Processes = slices.DeleteFunc(s.Processes, func(p process) bool { return p.PID == pid })
	})
}

func readState(dir string) (*state, error) {
	data, err := os.ReadFile(filepath.Join(dir, stateName))
	if err != nil {
		return nil, err
	}
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("lab: %s: %w", filepath.Join(dir, stateName), err)
	}
	return &s, nil
}

// acquire makes dir and takes its lock.
func acquire(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	for {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("lab: %w", err)
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if errors.Is(err, fs.ErrNotExist) {
			continue // another lab removed the directory just now
		}
		if err != nil {
			return nil, fmt.Errorf("lab: %w", err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			return nil, busy(dir)
		}
		held, err1 := f.Stat()
		named, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(held, named) {
			return f, nil
		}
		f.Close() // locked a file that its owner removed between our open and our lock
	}
}

// ErrBusy is wrapped by the error of a start beside a running lab.
var ErrBusy = errors.New("another lab is running")

func busy(dir string) error {
	if s, err := readState(dir); err == nil {
		return fmt.Errorf("lab: %w (process %d, directory %s): stop it first, or choose another directory", ErrBusy, s.PID, dir)
	}
	return fmt.Errorf("lab: %w (directory %s): stop it first, or choose another directory", ErrBusy, dir)
}

// release removes lock and directory. The parent goes too where it is empty, as /run/parallax is without a collector.
func release(dir string, lock *os.File) {
	_ = os.Remove(filepath.Join(dir, lockName))
	_ = os.Remove(dir)
	if dir == DefaultDir {
		_ = os.Remove(filepath.Dir(dir))
	}
	lock.Close()
}

// Clean removes what a killed lab left behind in dir (empty: DefaultDir). It returns an ErrBusy if that lab is alive. Run
// does the same before it starts.
func Clean(dir string) error {
	if dir == "" {
		dir = DefaultDir
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lock, err := acquire(dir)
	if err != nil {
		return err
	}
	defer release(dir, lock)
	return sweep(dir)
}

var validID = regexp.MustCompile(`^[a-z0-9]{4,16}$`)

// sweep removes all that the state in dir names. The caller holds the lock.
func sweep(dir string) error {
	s, err := readState(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// The ID is a part of paths to remove: never trust a damaged file with that.
	if !validID.MatchString(s.ID) {
		return fmt.Errorf("lab: %s: bad id %q: remove the file by hand", filepath.Join(dir, stateName), s.ID)
	}
	var errs []error
	for _, p := range s.Processes {
		errs = append(errs, p.kill())
	}
	names, err := netspace.List(nsPrefix(s.ID))
	errs = append(errs, err)
	for _, name := range names {
		errs = append(errs, netspace.Remove(name))
	}
	if s.MadeMount {
		netspace.Undo()
	}
	errs = append(errs, os.RemoveAll(workDir(dir, s.ID)))
	if err := cmp.Or(errs...); err != nil {
		return fmt.Errorf("lab: clean up: %w", err)
	}
	_ = os.Remove(filepath.Join(dir, stateName+".new"))
	return os.Remove(filepath.Join(dir, stateName))
}

// workDir is the directory of temporary files.
func workDir(dir, id string) string { return filepath.Join(dir, "plx-"+id) }

// kill ends p and waits until it is gone. A process with that PID but another start time is somebody else's.
func (p process) kill() error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return nil // gone
	}
	defer unix.Close(fd)
	// The descriptor holds on to one process; only now is its start time worth a look.
	if start, err := startTime(p.PID); err != nil || start != p.Start {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill %s (process %d): %w", p.Name, p.PID, err)
	}
	const patience = 5 * time.Second
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if n, err := unix.Poll(poll, int(patience.Milliseconds())); n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return nil
		}
	}
	return fmt.Errorf("process %d (%s) does not end", p.PID, p.Name)
}

// startTime returns when a process started, in clock ticks since boot (proc(5), /proc/PID/stat, field 22).
func startTime(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The command name (field 2) may hold spaces and parentheses: count from its end.
	_, rest, ok := strings.Cut(string(data[strings.LastIndexByte(string(data), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat: unexpected form", pid)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}
