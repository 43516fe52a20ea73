package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/gorilla/websocket"

	"github.com/parallax-flow/parallax/flow/query"
)

const (
	tickFlows   = 200
	writeWait   = 5 * time.Second
	maxMessage  = 16 << 10 // bytes a client may send at once
	liveWindow  = 60       // seconds, default
	minWindow   = 15
	maxWindow   = 900
	tickOverlap = 2 * coarseStep * 1000 // ms of timeline that a tick sends again: slots still fill
)

// The zero CheckOrigin accepts only pages of the same host.
var upgrader = websocket.Upgrader{ReadBufferSize: 4 << 10, WriteBufferSize: 32 << 10, EnableCompression: true}

// viewer is one open page. Its write loop owns it; the read loop only hands over what the page asked.
type viewer struct {
	conn   *websocket.Conn
	match  *matcher
	window int
	paused bool
	reset  bool
	seq    uint64
}

// websocket answers GET /api/v1/ws: ticks go out once a second. A page that does not read is cut off after writeWait:
// nothing is queued for it.
func (s *Server) websocket(w http.ResponseWriter, r *http.Request) {
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	defer conn.Close()
	subs := make(chan Subscribe)
	gone := make(chan struct{})
	end := make(chan struct{})
	defer close(end)
	go readLoop(conn, subs, gone, end)
	v := &viewer{conn: conn}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-gone:
			return
		case <-s.done:
			_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseGoingAway, "Parallax stops"), time.Now().Add(time.Second))
			return
		case sub := <-subs:
			if err := v.apply(sub); err != nil {
				if v.send(map[string]string{"error": err.Error()}) != nil {
					return
				}
				continue
			}
		case <-tick.C:
		}
		if v.match == nil {
			continue // nothing was asked yet
		}
		if v.send(s.tick(v, time.Now())) != nil {
			return
		}
	}
}

func readLoop(conn *websocket.Conn, subs chan<- Subscribe, gone chan<- struct{}, end <-chan struct{}) {
	defer close(gone)
	conn.SetReadLimit(maxMessage)
	for {
		var sub Subscribe
		_, data, err := conn.ReadMessage()
		if err != nil {
			return
		}
		if err := json.Unmarshal(data, &sub); err != nil {
			sub = Subscribe{Op: "invalid JSON"}
		}
		select {
		case subs <- sub:
		case <-end:
			return
		}
	}
}

func (v *viewer) apply(sub Subscribe) error {
	switch sub.Op {
	case "pause":
		v.paused = true
		return nil
	case "resume":
		v.paused = false
		return nil
	case "subscribe":
	default:
		return fmt.Errorf("op %q is not one of subscribe, pause, resume", sub.Op)
	}
	m, err := newMatcher(sub.Filter)
	if err != nil {
		return err
	}
	if sub.Window == 0 {
		sub.Window = liveWindow
	}
	if sub.Window < minWindow || sub.Window > maxWindow {
		return fmt.Errorf("window %d is not from %d to %d seconds", sub.Window, minWindow, maxWindow)
	}
	v.match, v.window, v.reset, v.seq = m, sub.Window, true, 0
	return nil
}

// send writes one message. Its error means that the page has gone or does not read.
func (v *viewer) send(msg any) error {
	if err := v.conn.SetWriteDeadline(time.Now().Add(writeWait)); err != nil {
		return err
	}
	return v.conn.WriteJSON(msg)
}

func (s *Server) tick(v *viewer, now time.Time) Tick {
	view := s.deps.Live.view(now, v.window, v.match)
	t := Tick{Time: now.UnixMilli(), Reset: v.reset, Flows: []Flow{}, Ledger: s.deps.Status().Ledger}
	p95 := func(k query.NodeKey) int64 { return view.served[k].quantile(.95) }
	t.Map = snapshot(view.from, view.to, view.edges, p95, view.groups)
	from := int64(0)
	if !v.reset {
		from = now.UnixMilli() - tickOverlap
	}
	t.Timeline = s.deps.Live.timeline(from, v.match)
	if !v.paused {
		flows, skipped, next := s.deps.Live.since(v.seq, tickFlows, v.match)
		for i := range flows {
			t.Flows = append(t.Flows, row(&flows[i]))
		}
		v.seq = next
		if !v.reset {
			t.Skipped = skipped
		}
	}
	v.reset = false
	return t
}
