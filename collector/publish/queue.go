package publish

import (
	"slices"

	"github.com/parallax-flow/parallax/flow"
)

// sealed is an encoded batch.
type sealed struct {
	number uint64 // 0 until it is sent for the first time
	flows  int
	data   []byte
	lost   []flow.Lost // what data tells: told again if the batch is dropped
}

// queue holds encoded batches until they are acknowledged. First come those that were sent, then the others. The Publisher's mu guards it.
type queue struct {
	batches []*sealed
	sent    int    // batches with a number
	next    int    // batch to send next on the present stream; at most sent
	last    uint64 // number given last
	acked   uint64 // flows
	flows   int
	bytes   int
}

// add appends b and returns the batches that were dropped to stay within limit.
func (q *queue) add(b *sealed, limit int) (dropped []*sealed) {
	q.batches = append(q.batches, b)
	q.flows += b.flows
	q.bytes += len(b.data)
	for q.bytes > limit && q.sent < len(q.batches) {
		dropped = append(dropped, q.batches[q.sent])
		q.remove(q.sent, q.sent+1)
	}
	return dropped
}

// dropUnsent removes all batches that were never sent.
func (q *queue) dropUnsent() []*sealed {
	dropped := slices.Clone(q.batches[q.sent:])
	q.remove(q.sent, len(q.batches))
	return dropped
}

func (q *queue) remove(from, to int) {
	for _, b := range q.batches[from:to] {
		q.flows -= b.flows
		q.bytes -= len(b.data)
	}
	q.batches = slices.Delete(q.batches, from, to)
}

// rewind makes the next stream begin with the oldest batch.
func (q *queue) rewind() { q.next = 0 }

// first returns the number that the oldest batch has or will have.
func (q *queue) first() uint64 {
	if q.sent > 0 {
		return q.batches[0].number
	}
	return q.last + 1
}

// take returns the next batch to send, nil if there is none.
func (q *queue) take() *sealed {
	if q.next == len(q.batches) {
		return nil
	}
	b := q.batches[q.next]
	q.next++
	if b.number == 0 {
		q.last++
		b.number = q.last
		q.sent++
	}
	return b
}

// ack removes all batches up to and with number.
func (q *queue) ack(number uint64) {
	n := 0
	for n < q.sent && q.batches[n].number <= number {
		q.acked += uint64(q.batches[n].flows)
		n++
	}
	q.remove(0, n)
	q.sent -= n
	q.next = max(0, q.next-n)
}
