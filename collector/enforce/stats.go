package enforce

import (
	"errors"
	"time"

	"github.com/parallax-flow/parallax/policy"
)

// Stats is what an Enforcer did and holds. Counters begin with the process.
type Stats struct {
	Mode       Mode
	WaitingFor string // which source keeps enforcement from beginning, "" if none does
	InForce    bool   // policies were put into force, and some are
	Pending    bool   // there are news that are not yet in force, nor refused

	Policies  int // in the last attempt
	Endpoints int // pods of this node that policies can bind
	Owned     int // of these: pods behind an interface that has its record
	Searched  int // pods behind no interface that was found: they are not bound
	Foreign   int // pods behind interfaces that Config.Own leaves to others
	Contested int // pods whose address two network namespaces claim: they are not bound

	// What the kernel holds, keys by table.
	Records, Peers, CIDRs, Services, Entries int
	Rules                                    int // numbers that Decision knows of today's policies

	Compiles    uint64
	Writes      uint64 // that changed the kernel's tables
	Failures    uint64 // writes that were refused and taken back
	LastCompile time.Duration
	LastApply   time.Duration // of compiling and writing
	LastApplied time.Time     // end of the last success

	FailingSince time.Time // zero: the last attempt was a success
	Failure      string    // why

	attempted bool
	done      revisions
}

// Stats may be called at any time from any goroutine.
func (e *Enforcer) Stats() Stats {
	if e.cfg.Mode == Observe {
		return Stats{Mode: Observe}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.stats
	s.Searched, s.Foreign, s.Contested = e.owners.count()
	s.Pending = !s.attempted || s.done != revisions{e.inputs.at(), e.owners.at()}
	return s
}

// tell notes the outcome of an attempt, and logs where it is another one than the last.
func (e *Enforcer) tell(err error, policies int, owned map[uint32]policy.EndpointKey, began time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := &e.stats
	now := time.Now()
	s.attempted, s.done, s.Policies = true, e.done, policies
	if err != nil {
		s.Failures++
		if s.Failure = err.Error(); s.FailingSince.IsZero() {
			s.FailingSince = now
			e.cfg.Logger.Error("policy cannot be put into force: the last good state stays until the next change", "error", err, "do", remedy(err))
		}
		return
	}
	if !s.FailingSince.IsZero() {
		e.cfg.Logger.Info("policy is in force again", "failed for", now.Sub(s.FailingSince).Round(time.Millisecond))
	}
	first := !s.InForce
	s.Failure, s.FailingSince, s.InForce = "", time.Time{}, true
	s.LastApply, s.LastApplied = now.Sub(began), now
	c := e.inForce
	s.Records, s.Peers, s.CIDRs, s.Entries, s.Rules = len(e.records), len(c.Peers), len(c.CIDRs), len(c.Entries), len(c.Rules)
	s.Endpoints, s.Services = len(c.Endpoints), len(c.Services)
	bound := make(map[policy.EndpointKey]bool, len(owned))
	for ifindex := range e.records {
		bound[owned[ifindex]] = true
	}
	s.Owned = len(bound)
	if first {
		e.cfg.Logger.Info("policy is in force", "mode", s.Mode.String(), "policies", s.Policies, "pods", s.Owned)
	}
}

// remedy says what a person can do about err.
func remedy(err error) string {
	if errors.Is(err, ErrFull) {
		return "have fewer rules, blocks or port ranges select pods of this node, or let rules select fewer pods and services"
	}
	return "see the error"
}
