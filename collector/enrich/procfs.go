package enrich

import (
	"bytes"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// procfs reads processes below a mount of proc(5).
type procfs string

// pidNamespaceInit is the inode of the initial PID namespace (include/linux/proc_ns.h, PROC_PID_INIT_INO).
const pidNamespaceInit = "pid:[4026531836]"

// isInitial reports whether the numbers here are those that the kernel reports.
func (p procfs) isInitial() bool {
	link, err := os.Readlink(filepath.Join(string(p), "self/ns/pid"))
	return err == nil && link == pidNamespaceInit
}

func (p procfs) file(pid uint32, name string) string {
	return string(p) + "/" + strconv.FormatUint(uint64(pid), 10) + "/" + name
}

// pids lists processes, newest number first.
func (p procfs) pids() []uint32 {
	dir, err := os.Open(string(p))
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	var list []uint32
	for _, n := range names {
		if pid, err := strconv.ParseUint(n, 10, 32); err == nil {
			list = append(list, uint32(pid))
		}
	}
	slices.SortFunc(list, func(a, b uint32) int { return int(b) - int(a) })
	return list
}

// hasComm reports whether pid, or a thread of it, has this command name. The kernel reports the thread's.
func (p procfs) hasComm(pid uint32, comm string) bool {
	if p.comm(pid) == comm {
		return true
	}
	const maxThreads = 256
	dir, err := os.Open(p.file(pid, "task"))
	if err != nil {
		return false
	}
	defer dir.Close()
	threads, _ := dir.Readdirnames(maxThreads)
	for _, t := range threads {
		if b, err := os.ReadFile(p.file(pid, "task/"+t+"/comm")); err == nil && string(bytes.TrimSuffix(b, []byte{'\n'})) == comm {
			return true
		}
	}
	return false
}

// comm returns the command name of pid, empty if it is gone.
func (p procfs) comm(pid uint32) string {
	b, err := os.ReadFile(p.file(pid, "comm"))
	if err != nil {
		return ""
	}
	return string(bytes.TrimSuffix(b, []byte{'\n'}))
}

// identify says what pid is a part of; empty if it is gone.
func (p procfs) identify(pid uint32) (kind, name string) {
	comm := p.comm(pid)
	if comm == "" {
		return "", ""
	}
	if b, err := os.ReadFile(p.file(pid, "cgroup")); err == nil {
		if kind, name = parseCgroup(string(b)); kind != "" {
			return kind, name
		}
	}
	args, _ := os.ReadFile(p.file(pid, "cmdline"))
	return kindProcess, commandName(comm, strings.Split(strings.TrimRight(string(args), "\x00"), "\x00"))
}

// commSize is how much of a command name the kernel keeps (TASK_COMM_LEN without the final zero).
const commSize = 15

// interpreters run a script, which is what a person knows. Value: options that say that there is no script file.
var interpreters = map[string]string{
	"python": "-c", "perl": "-e", "ruby": "-e", "node": "-e", "php": "-r", "sh": "-c", "bash": "-c", "dash": "-c", "java": "",
}

// commandName is comm made whole: the full name where the kernel cut it, the script of an interpreter.
func commandName(comm string, args []string) string {
	if len(args) == 0 || args[0] == "" {
		return comm
	}
	program := path.Base(args[0])
	if len(comm) == commSize && strings.HasPrefix(program, comm) {
		return program
	}
	inline, ok := interpreters[strings.TrimRight(comm, "0123456789.")]
	if !ok {
		return comm
	}
	for i, a := range args[1:] {
		switch {
		case a == inline:
			return comm
		case a == "-m" || a == "-jar": // module of Python, archive of Java
			if i+2 < len(args) {
				return path.Base(args[i+2])
			}
			return comm
		case !strings.HasPrefix(a, "-"):
			if inline == "" {
				return a[strings.LastIndexAny(a, "./")+1:] // class of Java
			}
			return path.Base(a)
		}
	}
	return comm
}

// sockets calls found for each socket inode that pid has open, until it returns false.
func (p procfs) sockets(pid uint32, found func(inode uint32) bool) {
	dir, err := os.Open(p.file(pid, "fd"))
	if err != nil {
		return
	}
	defer dir.Close()
	for {
		fds, err := dir.Readdirnames(512)
		for _, fd := range fds {
			link, err := os.Readlink(p.file(pid, "fd/"+fd))
			if err != nil {
				continue
			}
			if inode, ok := socketInode(link); ok && !found(inode) {
				return
			}
		}
		if err != nil || len(fds) == 0 {
			return
		}
	}
}

// socketInode reads "socket:[123]".
func socketInode(link string) (uint32, bool) {
	s, ok := strings.CutPrefix(link, "socket:[")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(s, "]"), 10, 32)
	return uint32(n), err == nil
}
