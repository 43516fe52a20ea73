package lab

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/parallax-flow/parallax/internal/kubetest/apiserver"
)

// DefaultDir is where a lab keeps its lock, its state and its temporary files.
const DefaultDir = "/run/parallax/lab"

// ClusterName is the name of the lab's cluster.
const ClusterName = "lab"

// Config is what a person can choose about a lab. The zero value is a good one.
type Config struct {
	Nodes  int          // 1 to 4; default 2
	Rate   float64      // requests per second at the edge, 0.1 to 200; each causes about five exchanges inside. Default 8
	Dir    string       // lock, state and temporary files; one lab at a time for each Dir. Other users must be able to traverse it. Default DefaultDir
	Pod    []string     // command that runs Pod with the arguments appended to it. Default: this executable, "lab-pod"
	Logger *slog.Logger // default slog.Default()

	Kubernetes bool // run a real Kubernetes API server, too, and tell it of the lab's pods
}

func (c Config) withDefaults() Config {
	if c.Nodes == 0 {
		c.Nodes = 2
	}
	if c.Rate == 0 {
		c.Rate = 8
	}
	if c.Dir == "" {
		c.Dir = DefaultDir
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// Validate says what is wrong with c, or missing for it.
func (c Config) Validate() error {
	c = c.withDefaults()
	if c.Nodes < 1 || c.Nodes > maxNodes {
		return fmt.Errorf("lab: nodes must be 1 to %d, not %d", maxNodes, c.Nodes)
	}
	if !(c.Rate >= 0.1 && c.Rate <= 200) {
		return fmt.Errorf("lab: rate must be 0.1 to 200 requests per second, not %v", c.Rate)
	}
	if c.Kubernetes {
		if _, err := apiserver.Find(); err != nil {
			return fmt.Errorf("lab: %w", err)
		}
	}
	return nil
}

// podCommand returns the command that runs Pod.
func (c Config) podCommand() ([]string, error) {
	if len(c.Pod) > 0 {
		return c.Pod, nil
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("lab: find own executable: %w", err)
	}
	return []string{exe, "lab-pod"}, nil
}

// What a person sees on a machine that can't run a lab.
var (
	errNotRoot = errors.New("lab: making network namespaces needs root: run with sudo")
	errNoIPv6  = errors.New("lab: this kernel runs without IPv6: boot it without ipv6.disable=1")
)
