package enrich

import "github.com/parallax-flow/parallax/flow"

// processes is the hot path's side of process names: what flows told, in front of what the scanner found.
type processes struct {
	scanner *scanner

	// byProcess holds what a record's process stands for; decode gives equal ones one pointer.
	byProcess generations[*flow.Process, *attribution]
	// bySocket holds whose a local socket is, from the records that said it: requests, drops and later records do not.
	bySocket generations[localSocket, *flow.Endpoint]
}

// attribution is a process's endpoint: by its command name until the scanner has looked at it.
type attribution struct {
	endpoint *flow.Endpoint
	asked    bool // the scanner has it, or had it
}

type localSocket struct {
	addr  flow.Addr
	port  uint16
	proto flow.Proto
}

func newProcesses(maxSockets int, s *scanner) *processes {
	return &processes{
		scanner:   s,
		byProcess: newGenerations[*flow.Process, *attribution](maxSockets),
		bySocket:  newGenerations[localSocket, *flow.Endpoint](maxSockets),
	}
}

// lookup names the process behind the local source of f, or its destination; nil if none is known.
func (p *processes) lookup(f *flow.Flow, dst bool) *flow.Endpoint {
	so, remote := localSocket{f.SrcAddr, f.SrcPort, f.Proto}, localSocket{f.DstAddr, f.DstPort, f.Proto}
	if dst {
		so, remote = remote, so
	}
	if f.Process != nil && f.ProcessDst == dst {
		e := p.of(f.Process)
		if f.Kind != flow.KindClose {
			if known, ok := p.bySocket.get(so); !ok || known != e {
				p.bySocket.put(so, e)
			}
		} else if !dst {
			p.bySocket.drop(so) // a client's port goes to another process next
		}
		return e
	}
	if so.port == 0 {
		return nil
	}
	if e, ok := p.bySocket.get(so); ok {
		if f.Kind == flow.KindClose && !dst {
			p.bySocket.drop(so)
		}
		return e
	}
	return p.search(so, remote)
}

// of returns the endpoint of a process that the kernel reported.
func (p *processes) of(proc *flow.Process) *flow.Endpoint {
	a, ok := p.byProcess.get(proc)
	if !ok {
		a = &attribution{endpoint: p.scanner.parts.endpoint(kindProcess, proc.Comm)}
		p.byProcess.put(proc, a)
	}
	if !a.asked {
		select {
		case p.scanner.wanted <- proc:
			a.asked = true
		default: // the scanner is behind: the next record asks again
		}
	}
	return a.endpoint
}

// refresh takes what the scanner found since the last call.
func (p *processes) refresh() {
	for {
		select {
		case r := <-p.scanner.found:
			p.byProcess.put(r.process, &attribution{endpoint: r.endpoint, asked: true})
		default:
			return
		}
	}
}

// search looks for the socket in the scanner's view, as the kernel would: connected, then by address, then any.
func (p *processes) search(so, remote localSocket) *flow.Endpoint {
	sockets := *p.scanner.sockets.Load()
	k := socketKey{so.addr, remote.addr, so.port, remote.port, so.proto}
	e := sockets[k]
	if e == nil {
		k.remote, k.remotePort = flow.Addr{}, 0
		e = sockets[k]
	}
	if e == nil {
		k.local = flow.Addr{}
		e = sockets[k]
	}
	if e == nil {
		select {
		case p.scanner.missed <- struct{}{}:
		default:
		}
	}
	return e
}
