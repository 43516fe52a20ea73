package enrich

import (
	"cmp"
	"time"
)

// Config of an Enricher. A zero field takes the default named beside it.
type Config struct {
	Node    string // name of the node that is observed; required
	Cluster string // its cluster; may be empty
	NetNS   string // path of the node's network namespace (/run/netns/x); empty: that of this process

	// Processes names local addresses by the process behind the socket. Only for the network namespace whose sockets
	// belong to processes in Proc, which is the host's.
	Processes    bool
	Proc         string        // "/proc"
	ScanInterval time.Duration // 2s: at least this long between two searches for the owners of sockets

	NameTTL    time.Duration // 60s: a name from a DNS answer is good for new connections at least this long
	MaxNames   int           // 8192: addresses with a DNS name, in each of two generations
	MaxPrivate int           // 1024: private addresses without any name that are told apart; further ones are "private"
	MaxSockets int           // 32768: local sockets whose process is known, in each of two generations
}

func (c *Config) setDefaults() {
	c.Proc = cmp.Or(c.Proc, "/proc")
	c.ScanInterval = cmp.Or(c.ScanInterval, 2*time.Second)
	c.NameTTL = cmp.Or(c.NameTTL, time.Minute)
	c.MaxNames = cmp.Or(c.MaxNames, 1<<13)
	c.MaxPrivate = cmp.Or(c.MaxPrivate, 1<<10)
	c.MaxSockets = cmp.Or(c.MaxSockets, 1<<15)
}
