package probe

import (
	"sync/atomic"
	"time"
)

// loop reads the ring and sweeps the flow table, all on the goroutine of run.
type loop struct {
	ring             *ring
	sweep            *sweep
	poll             time.Duration
	record           func([]byte)
	flush            func()
	delivered, swept *atomic.Uint64
}

// run reads until the interfaces have stopped, calls detach for the other hooks, and hands over what is left in the ring
// and in the flow table. cancel stops the interfaces.
func (l *loop) run(stopped <-chan error, cancel, detach func()) error {
	err := l.read(stopped, cancel)
	detach()
	for !l.drain() {
	}
	if restErr := l.expire(true); err == nil {
		err = restErr
	}
	return err
}

func (l *loop) read(stopped <-chan error, cancel func()) error {
	report := ticker{every: reportEvery, next: time.Now().Add(reportEvery)}
	expire := ticker{every: l.sweep.every(), next: time.Now().Add(l.sweep.every())}
	for {
		wait := l.poll
		if !l.drain() {
			wait = 0
		}
		select {
		case err := <-stopped:
			return err
		default:
		}
		err := l.ring.wait(wait)
		if err == nil && report.due() {
			err = l.sweep.reportIdle()
			l.drain() // before what is left is taken
		}
		if err == nil && expire.due() {
			err = l.expire(false)
		}
		if err != nil {
			cancel()
			<-stopped
			return err
		}
	}
}

// ticker says when something that is done at intervals is due. Intervals that were missed are not made up for.
type ticker struct {
	every time.Duration
	next  time.Time
}

func (t *ticker) due() bool {
	now := time.Now()
	if now.Before(t.next) {
		return false
	}
	t.next = now.Add(t.every)
	return true
}

// drain hands over what is in the ring, flushes even if that is nothing, and reports whether the ring was emptied. It
// stops behind some batches, so that a reader that can only just keep up still gets to its other work.
func (l *loop) drain() (empty bool) {
	const batches = 64
	for range batches {
		n := l.ring.drain(batchRecords, l.record)
		l.delivered.Add(uint64(n))
		l.flush()
		if n == 0 {
			return true
		}
	}
	return false
}

// expire hands over what the sweep takes from the flow table.
func (l *loop) expire(all bool) error {
	n := 0
	err := l.sweep.expire(all, func(rec []byte) {
		l.record(rec)
		if n++; n%batchRecords == 0 {
			l.flush()
		}
	})
	if n%batchRecords != 0 {
		l.flush()
	}
	l.swept.Add(uint64(n))
	return err
}
