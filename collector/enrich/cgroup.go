package enrich

import (
	"strconv"
	"strings"
)

// What a process is a part of; the words of flow.Endpoint.WorkloadKind.
const (
	kindUnit      = "Unit"
	kindContainer = "Container"
	kindPod       = "Pod"
	kindProcess   = "Process"
)

// parseCgroup names what a process belongs to from the text of /proc/PID/cgroup (cgroups(7)): a container by the
// twelve characters of its id that its tools print, a Kubernetes pod by its uid, a systemd unit by its name without
// ".service". Both cgroup versions and both drivers (systemd, cgroupfs) are known. Empty: none of these.
func parseCgroup(text string) (kind, name string) {
	for line := range strings.Lines(text) {
		_, rest, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		if !ok {
			continue
		}
		_, path, _ := strings.Cut(rest, ":")
		if kind, name = parseCgroupPath(path); kind != "" {
			return kind, name
		}
	}
	return "", ""
}

func parseCgroupPath(path string) (kind, name string) {
	var unit, container, pod string
	for segment := range strings.SplitSeq(path, "/") {
		if id := containerID(segment); id != "" {
			container = id
		}
		if uid := podUID(segment); uid != "" {
			pod = uid
		}
		if u, ok := strings.CutSuffix(segment, ".service"); ok && !strings.HasPrefix(u, "user@") {
			unit = unescapeUnit(u)
		}
	}
	switch {
	case pod != "":
		return kindPod, pod
	case container != "":
		return kindContainer, container
	case unit != "":
		return kindUnit, unit
	}
	return "", ""
}

// containerID takes the id from "<64 hex>", "docker-<64 hex>.scope", "cri-containerd-<64 hex>.scope",
// "crio-<64 hex>.scope", "libpod-<64 hex>.scope" and the like.
func containerID(segment string) string {
	segment = strings.TrimSuffix(segment, ".scope")
	if i := strings.LastIndexAny(segment, "-:"); i >= 0 {
		if strings.HasPrefix(segment, "crio-conmon-") || strings.HasPrefix(segment, "libpod-conmon-") {
			return "" // the monitor, which is outside
		}
		segment = segment[i+1:]
	}
	if len(segment) != 64 || strings.Trim(segment, "0123456789abcdef") != "" {
		return ""
	}
	return segment[:12]
}

// podUID takes the uid from "pod<uid>" and "kubepods-burstable-pod<uid with _ for ->.slice".
func podUID(segment string) string {
	segment = strings.TrimSuffix(segment, ".slice")
	i := strings.LastIndex(segment, "pod")
	if i < 0 || i > 0 && !(strings.HasPrefix(segment, "kubepods-") && segment[i-1] == '-') {
		return ""
	}
	uid := strings.ReplaceAll(segment[i+len("pod"):], "_", "-")
	if len(uid) != 36 && len(uid) != 32 || strings.Trim(uid, "0123456789abcdef-") != "" {
		return ""
	}
	return uid
}

// unescapeUnit undoes systemd-escape(1): "\x2d" is "-".
func unescapeUnit(s string) string {
	if !strings.Contains(s, `\x`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && s[i+1] == 'x' {
			if c, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
